"""Fetch 3,786 colour pictures of 64x64 pixels in ten classes: `python tools/fetch_emoji.py [FOLDER]`, needs npm.

They are Twemoji, Copyright Twitter, Inc and other contributors, CC BY 4.0, out of the npm package
emoji-datasource-twitter. The folder (by default `pictures`) is what `--dataset folder:pictures` reads.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "emoji-datasource-twitter@16.0.0"
DEFAULT_FOLDER = "pictures"


def images_by_category(emoji: list[dict]) -> Iterator[tuple[str, str]]:
    """Category and file name of every picture, those of other skin tones included."""
    for entry in emoji:
        for picture in (entry, *entry.get("skin_variations", {}).values()):
            if picture["has_img_twitter"]:
                yield entry["category"], picture["image"]


def unpack(archive: tarfile.TarFile, folder: Path) -> int:
    """Write `<folder>/<category>/<code points>.png`; returns how many."""
    emoji = json.load(archive.extractfile("package/emoji.json"))
    names = {name: category for category, name in images_by_category(emoji)}
    count = 0
    for member in archive:
        where, _, name = member.name.rpartition("/")
        if where == "package/img/twitter/64" and name in names:
            target = folder / names[name] / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.extractfile(member).read())
            count += 1
    return count


def main(folder: Path) -> None:
    if os.path.lexists(folder):
        sys.exit(f"error: {folder} exists already: delete it, or give another folder")
    if shutil.which("npm") is None:
        sys.exit("error: npm is not installed: install Node.js, which brings it")
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=f".{folder.name}.") as temporary:
        command = ["npm", "pack", PACKAGE, "--loglevel=error", "--pack-destination", temporary]
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"error: npm cannot fetch {PACKAGE}: its message is above")
        with tarfile.open(next(Path(temporary).glob("*.tgz"))) as archive:
            count = unpack(archive, Path(temporary) / folder.name)
        (Path(temporary) / folder.name).rename(folder)
    print(f"wrote {count} pictures to {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_FOLDER))
