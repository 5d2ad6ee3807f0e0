"""Samples as PNG files: named by class and seed, gone on with, and never over anything of others."""

import shutil
import sys

import pytest
import torch
from commands import load_script
from torchvision.io import decode_image

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.evaluation import sample_files as module
from ldm_explorer.evaluation.sample_files import SampleSettings, sample_files, write_samples
from ldm_explorer.evaluation.subjects import SampleFolder, is_samples
from ldm_explorer.latents import decode_images
from ldm_explorer.run_files import write_spec
from ldm_explorer.run_folder import FolderRefused
from ldm_explorer.samplers import final_latents

FEW = SampleSettings(steps=2)


@pytest.fixture
def checkpoint(ldm_folder):
    return read_checkpoint(ldm_folder)


def write(checkpoint, folder, count: int, settings=FEW, first: int = 0) -> list[int]:
    return list(write_samples(checkpoint, folder, sample_files(checkpoint, count, first), settings))


def test_samples_are_the_pipelines_and_evaluation_reads_their_classes_back(checkpoint, tmp_path):
    assert write(checkpoint, tmp_path / "out", 12) == [0, 12]
    assert is_samples(tmp_path / "out")
    read = SampleFolder.read(tmp_path / "out", "fashion_mnist", None)
    assert sorted(read.labels.tolist()) == sorted(seed % 10 for seed in range(12))
    steps = checkpoint.pipeline.denoise([3], [3], num_inference_steps=2)
    (expected,) = decode_images(checkpoint.codec, final_latents(steps), checkpoint.spec)
    assert torch.equal(decode_image(tmp_path / "out" / "Dress" / "00000003.png"), expected)


def test_a_folder_that_is_not_full_is_gone_on_with(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH_IMAGES", 2)
    whole, out = tmp_path / "whole", tmp_path / "out"
    write(checkpoint, whole, 6)
    steps = write_samples(checkpoint, out, sample_files(checkpoint, 4), FEW)
    assert [next(steps), next(steps)] == [0, 2]
    steps.close()
    (out / "notes.txt").write_text("mine")
    (out / "Bag").mkdir()
    (out / "Bag" / "mine.png").write_bytes(b"mine")
    (out / "T-shirt" / "00000000.png").write_bytes(b"written before")
    assert write(checkpoint, out, 6) == [2, 4, 6]
    assert (out / "T-shirt" / "00000000.png").read_bytes() == b"written before"
    assert (out / "Bag" / "mine.png").read_bytes() == b"mine"
    for file in sample_files(checkpoint, 6)[1:]:
        assert (out / file.name).read_bytes() == (whole / file.name).read_bytes()
    assert not list(out.rglob("*.part"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (SampleSettings(steps=100_000), "100000 steps: give 1 to 1000"),
        (SampleSettings(steps=2, guidance_scale=float("nan")), "guidance_scale is nan"),
    ],
)
def test_what_cannot_be_sampled_leaves_no_trace(checkpoint, tmp_path, settings, said):
    with pytest.raises(ValueError, match=said):
        write(checkpoint, tmp_path / "out", 1, settings)
    assert not (tmp_path / "out").exists()
    assert write(checkpoint, tmp_path / "out", 1) == [0, 1]


def test_samples_of_other_settings_or_weights_are_not_mixed(checkpoint, tmp_path, ldm_folder):
    write(checkpoint, tmp_path / "out", 1)
    with pytest.raises(FolderRefused, match="holds samples with steps 2, not 3: give another folder"):
        write(checkpoint, tmp_path / "out", 2, SampleSettings(steps=3))
    other = shutil.copytree(ldm_folder, tmp_path / "fashion_mnist" / "other")
    (other / "unet" / "more.safetensors").write_bytes(b"other")
    with pytest.raises(FolderRefused, match=r"holds samples with unet [0-9a-f]{64}, not"):
        write(read_checkpoint(other), tmp_path / "out", 2)


@pytest.mark.parametrize("kind", ["file", "link", "folder", "linked class"])
def test_a_name_that_is_taken_is_refused_before_any_work(checkpoint, tmp_path, kind):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    place = out / "Trouser" / "00000001.png"
    elsewhere.mkdir()
    if kind == "linked class":
        out.mkdir()
        place.parent.symlink_to(elsewhere)
    else:
        place.parent.mkdir(parents=True)
        {"file": place.touch, "folder": place.mkdir, "link": lambda: place.symlink_to(elsewhere / "x")}[kind]()
    with pytest.raises(FolderRefused, match="is there, and is no sample of ours: move it away"):
        write(checkpoint, out, 2)
    assert [path for path in out.rglob("*.png") if path != place] == []
    assert list(elsewhere.iterdir()) == []


def test_classes_that_no_folder_can_be_named_by_are_refused(color_folder, tmp_path):
    folder = shutil.copytree(color_folder, tmp_path / "pictures" / "odd")
    spec = read_checkpoint(folder).spec
    for name in ("../up", "a\\b", "..", "c:"):
        write_spec(folder, type(spec)(**vars(spec) | {"class_names": ("red", name)}))
        with pytest.raises(ValueError, match="has a name that no folder can have: rename it"):
            sample_files(read_checkpoint(folder), 4)


def test_the_command_says_what_there_is(ldm_folder, tmp_path, monkeypatch, capsys):
    script = load_script("sample")
    command = [
        "sample.py",
        str(ldm_folder),
        str(tmp_path / "out"),
        "--num-images",
        "3",
        "--steps",
        "1",
        "--threads",
        "1",
    ]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", command)
        script.main_of(script.SampleConfig, script.main)
        assert f"{tmp_path / 'out'} holds 3 samples of tiny-ldm" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*command, "--num-images", "0"])
    with pytest.raises(SystemExit, match="2"):
        script.main_of(script.SampleConfig, script.main)
    assert "--num-images is 0: give at least 1" in capsys.readouterr().err
