"""A run that is killed and resumed ends with the weights of one that was not, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from commands import GIVE_UP_SECONDS, Forked, finish, logged_steps, run_command, run_forked
from foreign_files import contents, move_away, plant, unchanged
from helpers import draw_shapes, same_weights
from safetensors.torch import load_file
from torchvision.transforms.functional import to_pil_image

from ldm_explorer import run_folder
from ldm_explorer.checkpoints import CheckpointError, read_checkpoint
from ldm_explorer.run_folder import MARK
from ldm_explorer.training import run_state
from ldm_explorer.training.run_state import latest_state


def kill_while_saving() -> None:
    """Have this process killed when half of a state is written, the ninth or a later step's."""
    save_file = run_state.save_file

    def write_half(tensors, path):
        if "state-" in str(path) and int(str(path).split("state-")[1][:9]) >= 9:
            path.write_bytes(bytes(1000))
            os.kill(os.getpid(), signal.SIGKILL)
        save_file(tensors, path)

    run_state.save_file = write_half


def kill_while_exporting() -> None:
    """Have this process killed between two files of its checkpoint."""
    put = run_folder.put

    def put_or_die(temporary, final):
        if final.match("vae/config.json"):
            os.kill(os.getpid(), signal.SIGKILL)
        put(temporary, final)

    run_folder.put = put_or_die


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("kill") / "shapes"
    folder.mkdir()
    for number, image in enumerate(draw_shapes(80, seed=0).images):
        to_pil_image(image).save(folder / f"{number}.png")
    options = ["--dataset", f"folder:{folder}", "--image-side", "32", "--latent-size", "8", "--widths", "16"]
    options += [
        "--layers-per-block",
        "1",
        "--batch-size",
        "4",
        "--threads",
        "1",
        "--max-steps",
        "60",
        "--precision",
        "fp32",
    ]
    options += ["--save-every-steps", "3", "--log-every-steps", "1", "--validate-every-steps", "20"]
    return ["train/vae.py", *options]


@pytest.fixture(scope="module")
def uninterrupted(command, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("uninterrupted") / "run"
    run_command(sys.executable, *command, "--out", str(run_dir))
    return run_dir


def kill_after(step: int, *command: str, run_dir: Path, before: Callable[[], None] | None = None) -> None:
    process = Forked(*command, "--out", str(run_dir), "--resume", before=before)
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while max(logged_steps(run_dir), default=0) < step and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    output = finish(process)
    assert process.returncode == -signal.SIGKILL, output


def test_four_kills_one_in_a_state_and_one_in_the_export_change_nothing(command, uninterrupted, tmp_path):
    """And nothing of somebody else's, in the same folder."""
    run_dir = tmp_path / "run"
    kill_after(5, *command, run_dir=run_dir)
    planted = move_away(run_dir, plant(run_dir, tmp_path / "elsewhere"))
    kill_after(1000, *command, run_dir=run_dir, before=kill_while_saving)
    assert latest_state(run_dir).name < "state-000000012"
    assert list(run_dir.glob(f"{MARK}/tmp/*")), "the kill came while a state was being written"
    kill_after(30, *command, run_dir=run_dir)
    kill_after(1000, *command, run_dir=run_dir, before=kill_while_exporting)
    with pytest.raises(CheckpointError):
        read_checkpoint(run_dir)
    run_forked(*command, "--out", str(run_dir), "--resume")
    assert logged_steps(run_dir) == list(range(1, 61))
    for part in ("vae/diffusion_pytorch_model.safetensors", "state-000000060/state.safetensors"):
        assert same_weights(load_file(run_dir / part), load_file(uninterrupted / part))
    assert unchanged(run_dir, planted)
    ours = {name for name in contents(run_dir) if name not in planted}
    assert ours == set(contents(uninterrupted)), "and what the kills left half-written is cleaned up"


@pytest.fixture
def small_disk(tmp_path, uninterrupted):
    """A disk on which one state has room and a second one, written before the first is deleted, has not."""
    size = 1.5 * (uninterrupted / "state-000000060/state.safetensors").stat().st_size
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size:.0f}", "tmpfs", disk], capture_output=True)
    if mount.returncode:
        pytest.skip("a disk can only be mounted by root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_ends_in_a_sentence_and_a_larger_one_goes_on(command, uninterrupted, small_disk):
    run_dir = small_disk / "run"
    process = Forked(*command, "--out", str(run_dir))
    output = finish(process)
    assert process.returncode == 1, output
    assert "No space left on device" in output, output
    assert "go on from step 3 with the same command and --resume" in output, output
    assert "Traceback" not in output, output
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    run_forked(*command, "--out", str(run_dir), "--resume")
    part = "state-000000060/state.safetensors"
    assert same_weights(load_file(run_dir / part), load_file(uninterrupted / part))


def test_a_disk_that_is_full_from_the_start_is_named_with_the_way_on(command, small_disk):
    subprocess.run(["mount", "-o", "remount,size=16k", small_disk], check=True)
    run_dir = small_disk / "run"
    process = Forked(*command, "--out", str(run_dir))
    output = finish(process)
    assert process.returncode == 1, output
    assert f"error: cannot write to {run_dir}: [Errno 28] No space left on device" in output, output
    assert "the same command and --resume" in output, output
    assert "Traceback" not in output, output
