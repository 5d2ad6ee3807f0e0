"""The commands as they are typed, on the real images, with networks small enough to be done in seconds."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from commands import ENVIRONMENT, GIVE_UP_SECONDS, LAUNCH, REPO, finish, logged_steps, run_command, start

from ldm_explorer.checkpoints import load_pipeline, read_checkpoint
from ldm_explorer.diagnosis.statistics import read_statistics
from ldm_explorer.film import read_film
from ldm_explorer.network_files import weights_sha256
from ldm_explorer.run_folder import MARK
from ldm_explorer.training.command_line import command_line

pytestmark = pytest.mark.xdist_group("train commands")  # one worker, as the tests share their trainings

QUICK = ["--threads", "1", "--log-every-steps", "1", "--layers-per-block", "1"]
VAE_OPTIONS = [*QUICK, "--latent-size", "8", "--widths", "16", "--batch-size", "4", "--max-steps", "300"]
LDM_OPTIONS = [*QUICK, "--widths", "16", "32", "--batch-size", "4", "--max-steps", "4"]


@dataclass(frozen=True)
class Interrupted:
    """A training that Ctrl-C stopped, and what it left then."""

    command: list[str]
    run_dir: Path
    files: list[str]
    steps: list[int]


@pytest.fixture(scope="module")
def interrupted_vae(fashion_mnist_dir, tmp_path_factory) -> Interrupted:
    run_dir = tmp_path_factory.mktemp("commands") / "fashion_mnist" / "vae-8x8x4"
    command = [*LAUNCH, "train/vae.py", *VAE_OPTIONS, "--data-dir", str(fashion_mnist_dir), "--out", str(run_dir)]
    process = start(*command)
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while len(logged_steps(run_dir)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the launcher and the training both get it
    output = finish(process)
    assert "--resume" in output, output
    return Interrupted(command, run_dir, sorted(path.name for path in run_dir.iterdir()), logged_steps(run_dir))


@pytest.fixture(scope="module")
def vae_dir(interrupted_vae) -> Path:
    """The same training, resumed and finished."""
    run_command(*interrupted_vae.command, "--resume")
    return interrupted_vae.run_dir


@pytest.fixture(scope="module")
def ldm_dir(vae_dir, fashion_mnist_dir) -> Path:
    run_dir = vae_dir.with_name("ldm-8x8x4-cosine")
    options = [*LDM_OPTIONS, "--vae", str(vae_dir), "--data-dir", str(fashion_mnist_dir), "--out", str(run_dir)]
    run_command(*LAUNCH, "train/ldm.py", *options)
    return run_dir


def test_ctrl_c_leaves_a_state_and_no_checkpoint(interrupted_vae):
    last = interrupted_vae.steps[-1]
    assert 3 <= last < 300
    assert interrupted_vae.files == [MARK, f"state-{last:09d}", "train_config.json", "train_log.jsonl"]


def test_a_resumed_command_finishes_without_a_step_twice_or_missing(vae_dir):
    assert logged_steps(vae_dir) == list(range(1, 301))


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
    output = run_command(sys.executable, "train/evaluate.py", str(ldm_dir), *options)
    assert "| ldm-8x8x4-cosine | 256 |" in output
    figures = read_checkpoint(ldm_dir).metrics["evaluation_unipc_1_quick"]
    assert figures["generation"]["num_images"] == 2000
    assert figures["generation"]["fd_percent"] > figures["generation"]["fd_floor_percent"]
    assert 0.05 < figures["generation"]["class_consistency"] < 0.3, "four steps of training teach no class"
    assert figures["reconstruction"]["pca_psnr_db"] == pytest.approx(26.9, abs=0.1)
    assert figures["loss"]["floors"]["gaussian"] < figures["loss"]["floors"]["white"]


def test_latent_statistics_are_written_from_the_start_and_can_be_written_again(ldm_dir, fashion_mnist_dir, tmp_path):
    folder = tmp_path / "fashion_mnist" / "run"
    shutil.copytree(ldm_dir, folder)
    written = read_statistics(folder)
    (folder / "latents.safetensors").unlink()
    run_command(sys.executable, "train/latents.py", str(folder), "--data-dir", str(fashion_mnist_dir))
    again = read_statistics(folder)
    assert torch.allclose(again.eigenvalues, written.eigenvalues, rtol=1e-2, atol=1e-4)
    assert torch.allclose(again.memorising, written.memorising, rtol=0.05, atol=1e-3)
    assert again.subset_labels.equal(written.subset_labels)


@pytest.mark.parametrize("weights", ["average", "last"])
def test_a_state_becomes_a_checkpoint_of_its_own(ldm_dir, tmp_path, weights):
    out = tmp_path / "fashion_mnist" / weights
    run_command(sys.executable, "train/export_state.py", str(ldm_dir), "--out", str(out), "--weights", weights)
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
    process = subprocess.run(
        [sys.executable, f"train/{script}", *options, "--out", str(tmp_path / "run")],
        cwd=REPO,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=GIVE_UP_SECONDS,
    )
    assert process.returncode != 0
    assert said in process.stderr
    assert "Traceback" not in process.stderr + process.stdout
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_the_same_folder_is_refused(interrupted_vae):
    script = interrupted_vae.command[len(LAUNCH) :]
    before = sorted(path.name for path in interrupted_vae.run_dir.iterdir())
    process = subprocess.run([sys.executable, *script], cwd=REPO, env=ENVIRONMENT, capture_output=True, text=True)
    assert process.returncode != 0
    assert "--resume" in process.stderr
    assert "Traceback" not in process.stderr
    assert sorted(path.name for path in interrupted_vae.run_dir.iterdir()) == before
