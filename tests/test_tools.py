"""What the tools do with what they get; that they get it is for the network to see to."""

import io
import json
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from fetch_emoji import unpack


def archive(files: dict[str, bytes]) -> tarfile.TarFile:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    content.seek(0)
    return tarfile.open(fileobj=content)


def test_pictures_are_laid_into_a_folder_per_category(tmp_path):
    emoji = [
        {"category": "Food", "image": "1f34e.png", "has_img_twitter": True},
        {
            "category": "People",
            "image": "1f44b.png",
            "has_img_twitter": True,
            "skin_variations": {
                "1F3FB": {"image": "1f44b-1f3fb.png", "has_img_twitter": True},
                "1F3FC": {"image": "1f44b-1f3fc.png", "has_img_twitter": False},
            },
        },
    ]
    names = ["1f34e.png", "1f44b.png", "1f44b-1f3fb.png", "1f44b-1f3fc.png", "../../../../evil.png"]
    files = {f"package/img/twitter/64/{name}": name.encode() for name in names}
    files |= {"package/img/twitter/sheets/1f34e.png": b"", "package/emoji.json": json.dumps(emoji).encode()}
    assert unpack(archive(files), tmp_path / "pictures") == 3
    written = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {
        "pictures/Food/1f34e.png": b"1f34e.png",
        "pictures/People/1f44b.png": b"1f44b.png",
        "pictures/People/1f44b-1f3fb.png": b"1f44b-1f3fb.png",
    }
