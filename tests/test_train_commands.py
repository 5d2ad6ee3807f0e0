"""The commands on the real images, with networks small enough to be done in seconds; trainings begin as typed."""

import os
import shutil
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from commands import GIVE_UP_SECONDS, LAUNCH, Forked, finish, logged_steps, run_forked, start

from ldm_explorer import data
from ldm_explorer.checkpoints import load_pipeline, read_checkpoint
from ldm_explorer.diagnosis.statistics import read_statistics
from ldm_explorer.evaluation.config import EvaluationConfig
from ldm_explorer.film import read_film
from ldm_explorer.network_files import weights_sha256
from ldm_explorer.run_folder import MARK
from ldm_explorer.training.command_line import command_line

QUICK = ["--threads", "1", "--log-every-steps", "1", "--layers-per-block", "1"]
NUM_STEPS = "120"
VAE_OPTIONS = [*QUICK, "--latent-size", "8", "--widths", "16", "--batch-size", "4", "--max-steps", NUM_STEPS]
QUICK_IMAGES = EvaluationConfig(quick=True).num_images // 5
LDM_OPTIONS = [*QUICK, "--widths", "16", "32", "--batch-size", "4", "--max-steps", "4"]


@dataclass(frozen=True)
class Interrupted:
    """A training that Ctrl-C stopped, and what it left then."""

    script: list[str]
    run_dir: Path
    files: list[str]
    steps: list[int]


def fewer_images() -> None:
    """Leave every fifth image to this process, of the dataset and of those that it measures.

    All of them take two minutes to encode and to measure.
    """
    dataset = data.DATASETS["fashion_mnist"]

    def load(data_dir: Path | None, split: data.Split) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = dataset.load(data_dir, split)
        return images[::5], labels[::5]

    data.DATASETS["fashion_mnist"] = replace(dataset, load=load)
    EvaluationConfig.num_images = property(lambda config: QUICK_IMAGES if config.quick else None)


@pytest.fixture(scope="module")
def interrupted_vae(fashion_mnist_dir, tmp_path_factory) -> Interrupted:
    run_dir = tmp_path_factory.mktemp("commands") / "fashion_mnist" / "vae-8x8x4"
    script = ["train/vae.py", *VAE_OPTIONS, "--data-dir", str(fashion_mnist_dir), "--out", str(run_dir)]
    process = start(*LAUNCH, *script)
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while len(logged_steps(run_dir)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the launcher and the training both get it
    output = finish(process)
    assert "--resume" in output, output
    return Interrupted(script, run_dir, sorted(path.name for path in run_dir.iterdir()), logged_steps(run_dir))


@pytest.fixture(scope="module")
def vae_dir(interrupted_vae) -> Path:
    """The same training, resumed and finished."""
    run_forked(*interrupted_vae.script, "--resume")
    return interrupted_vae.run_dir


@pytest.fixture(scope="module")
def ldm_dir(vae_dir, fashion_mnist_dir) -> Path:
    run_dir = vae_dir.with_name("ldm-8x8x4-cosine")
    options = [*LDM_OPTIONS, "--vae", str(vae_dir), "--data-dir", str(fashion_mnist_dir), "--out", str(run_dir)]
    run_forked("train/ldm.py", *options, before=fewer_images)
    return run_dir


def test_ctrl_c_leaves_a_state_and_no_checkpoint(interrupted_vae):
    last = interrupted_vae.steps[-1]
    assert 3 <= last < int(NUM_STEPS)
    assert interrupted_vae.files == [MARK, f"state-{last:09d}", "train_config.json", "train_log.jsonl"]


def test_a_resumed_command_finishes_without_a_step_twice_or_missing(vae_dir):
    assert logged_steps(vae_dir) == list(range(1, int(NUM_STEPS) + 1))


def test_training_an_autoencoder_leaves_a_checkpoint(vae_dir):
    checkpoint = read_checkpoint(vae_dir)
    assert (checkpoint.kind, checkpoint.dataset) == ("vae", "fashion_mnist")
    assert checkpoint.vae.config.latent_channels == len(checkpoint.vae.config.latents_std) == 4
    assert checkpoint.config["widths"] == [16]
    losses = [line["loss"] for line in checkpoint.log()]
    assert sum(losses[-20:]) < sum(losses[:20])


def test_training_a_denoiser_leaves_a_pipeline_that_makes_images(ldm_dir, vae_dir):
    checkpoint = read_checkpoint(ldm_dir)
    assert (checkpoint.kind, checkpoint.dataset) == ("ldm", "fashion_mnist")
    assert logged_steps(ldm_dir) == [1, 2, 3, 4]
    film = read_film(ldm_dir, channels=1)
    assert [frame.step for frame in film] == [1, 2, 4]
    assert film[0].images.shape == (10, 1, 28, 28)
    assert not film[0].images.equal(film[-1].images)
    assert checkpoint.log()[-1]["validation_loss"] > 0
    images = load_pipeline(ldm_dir)([3, 10], [0, 1], num_inference_steps=2, output_type="pt").images
    assert images.shape == (2, 1, 32, 32)
    assert images.isfinite().all()
    theirs = read_checkpoint(vae_dir).vae.state_dict()
    assert all(tensor.equal(theirs[name]) for name, tensor in checkpoint.vae.state_dict().items())


def test_a_run_card_and_the_cost_lie_beside_the_weights(vae_dir, ldm_dir):
    for folder, script in ((vae_dir, "train/vae.py"), (ldm_dir, "train/ldm.py")):
        card = (folder / "README.md").read_text()
        assert f"accelerate launch {script} --log-every-steps 1" in card
        assert "--out" not in card
        assert "--threads" not in card
        training = read_checkpoint(folder).metrics["training"]
        assert training["images"] == 4 * training["steps"]
        assert training["gflops_per_image"] > 0
    came_from = {"folder": str(vae_dir), "sha256": weights_sha256(vae_dir / "vae")}
    of_vae = read_checkpoint(vae_dir).metrics["training"]
    assert read_checkpoint(ldm_dir).metrics["training"]["autoencoder"] == of_vae | came_from


def test_measuring_writes_the_figures_beside_the_weights(ldm_dir, fashion_mnist_dir):
    options = ["--quick", "--steps", "1", "--threads", "1", "--data-dir", str(fashion_mnist_dir)]
    output = run_forked("train/evaluate.py", str(ldm_dir), *options, before=fewer_images)
    assert "| ldm-8x8x4-cosine | 256 |" in output
    figures = read_checkpoint(ldm_dir).metrics["evaluation_unipc_1_quick"]
    assert figures["generation"]["num_images"] == QUICK_IMAGES == 400
    assert figures["generation"]["fd_percent"] > figures["generation"]["fd_floor_percent"]
    assert 0.05 < figures["generation"]["class_consistency"] < 0.3, "four steps of training teach no class"
    assert figures["reconstruction"]["pca_psnr_db"] == pytest.approx(27.04, abs=0.01), "by its eigenvectors"
    assert figures["loss"]["floors"]["gaussian"] < figures["loss"]["floors"]["white"]


def test_latent_statistics_are_written_from_the_start_and_can_be_written_again(ldm_dir, fashion_mnist_dir, tmp_path):
    folder = tmp_path / "fashion_mnist" / "run"
    shutil.copytree(ldm_dir, folder)
    written = read_statistics(folder)
    (folder / "latents.safetensors").unlink()
    run_forked("train/latents.py", str(folder), "--data-dir", str(fashion_mnist_dir), before=fewer_images)
    again = read_statistics(folder)
    assert torch.allclose(again.eigenvalues, written.eigenvalues, rtol=1e-2, atol=1e-4)
    assert torch.allclose(again.memorising, written.memorising, rtol=0.05, atol=1e-3)
    assert again.subset_labels.equal(written.subset_labels)


@pytest.mark.parametrize("weights", ["average", "last"])
def test_a_state_becomes_a_checkpoint_of_its_own(ldm_dir, tmp_path, weights):
    out = tmp_path / "fashion_mnist" / weights
    run_forked("train/export_state.py", str(ldm_dir), "--out", str(out), "--weights", weights)
    exported, finished = (read_checkpoint(folder).pipeline.unet.state_dict() for folder in (out, ldm_dir))
    assert all(tensor.equal(finished[name]) for name, tensor in exported.items()) == (weights == "average")
    assert len(read_checkpoint(out).log()) == 4


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("ldm.py --out run --seed 3 --resume --vae out", "ldm.py --seed 3 --vae out"),
        (
            "ldm.py --vae=threads --data-dir=here --threads 2 --seed 3",
            "ldm.py --vae=threads --seed 3",
        ),
        ("vae.py --tracker tensorboard --widths 16 32", "vae.py --widths 16 32"),
    ],
)
def test_the_recorded_command_keeps_what_changes_the_result(typed, kept):
    assert command_line(f"train/{typed}".split()) == f"accelerate launch train/{kept}"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["vae.py", "--latent-size", "5"], "latent size 5"),
        (["vae.py", "--data-dir", "/nowhere"], "/nowhere"),
        (["ldm.py", "--vae", "/nowhere"], "/nowhere"),
        (["ldm.py", "--schedule", "no_such"], "cosine"),
    ],
    ids=["latent size", "data folder", "autoencoder", "schedule"],
)
def test_a_wrong_option_ends_in_a_sentence(command, said, tmp_path):
    script, *options = command
    process = Forked(f"train/{script}", *options, "--out", str(tmp_path / "run"))
    printed, errors = process.communicate(GIVE_UP_SECONDS)
    assert process.returncode not in (0, None)
    assert said in errors
    assert "Traceback" not in errors + printed
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_the_same_folder_is_refused(interrupted_vae):
    before = sorted(path.name for path in interrupted_vae.run_dir.iterdir())
    process = Forked(*interrupted_vae.script)
    _, errors = process.communicate(GIVE_UP_SECONDS)
    assert process.returncode not in (0, None)
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert sorted(path.name for path in interrupted_vae.run_dir.iterdir()) == before
