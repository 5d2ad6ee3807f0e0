"""What the tools do with what they get; that they get it is for the network to see to."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
import results
import seeds
from fetch_emoji import unpack

from ldm_explorer.atomic import write_json
from ldm_explorer.checkpoints import read_json
from ldm_explorer.run_files import update_metrics


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


def measured_run(source: Path, place: Path, seed: int, psnr_db: float, **options) -> Path:
    folder = shutil.copytree(source, place / f"run-{seed}-{len(list(place.iterdir()))}")
    config = {"dataset": "fashion_mnist", "seed": seed, "vae": f"vae-{seed}", "batch_size": 64} | options
    write_json(folder / "train_config.json", config)
    of_autoencoder = {"command": f"accelerate launch train/vae.py --max-steps 9 --seed {seed}"}
    training = {"command": f"accelerate launch train/ldm.py --seed {seed}", "autoencoder": of_autoencoder}
    update_metrics(folder, "training", training)
    conditions = {"weights": f"{seed}", "threads": 1}
    update_metrics(folder, "evaluation", {"reconstruction": {"psnr_db": psnr_db}, "conditions": conditions})
    return folder


def test_both_readmes_show_what_the_checkpoints_store():
    for path, text in results.texts().items():
        assert path.read_text() == text, f"python tools/results.py brings {path.name} up to date"


def test_seeds_are_kept_as_lists_and_only_of_runs_that_differ_in_nothing_else(ldm_folder, tmp_path):
    runs, file = tmp_path / "fashion_mnist", tmp_path / "seeds.json"
    runs.mkdir()
    three = [measured_run(ldm_folder, runs, seed, 30.0 + seed) for seed in range(3)]
    seeds.main(three, file)
    (kept,) = read_json(file).values()
    assert kept["psnr_db"] == [30, 31, 32]
    assert kept["commands"][2][1] == "accelerate launch train/ldm.py --seed 2"
    for folders, match in (
        (three[:2], "3 runs or more"),
        ([*three, three[0]], "same seed"),
        ([*three[:2], measured_run(ldm_folder, runs, 3, 30.0, batch_size=32)], "more than their seeds"),
        ([*three, ldm_folder], "is no denoiser that train/ldm.py trained"),
    ):
        with pytest.raises(SystemExit, match=match):
            seeds.main(folders, file)
    assert read_json(file).values(), "what was there is kept"
