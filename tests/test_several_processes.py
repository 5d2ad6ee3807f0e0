"""Two processes on one machine over gloo, with the real command on a small folder of images."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import GIVE_UP_SECONDS, LAUNCH, Forked, finish, logged_steps, run_command, run_forked, start
from PIL import Image

from ldm_explorer.run_folder import RunFolder
from ldm_explorer.training.run_state import latest_state

TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
FORKING = [*TORCHRUN, "--run-path", "--start-method", "fork"]
"""Where torchrun itself was forked: its processes then import nothing either."""
OPTIONS = ["--threads", "1", "--log-every-steps", "1", "--layers-per-block", "1", "--precision", "fp32"]
OPTIONS += ["--widths", "16", "32", "--batch-size", "8", "--image-side", "16"]
SECTIONS = ("reconstruction", "latent_space", "continuity", "generation")


def draw_squares(folder: Path, count: int) -> str:
    """Squares of two colours, as a dataset."""
    generator = np.random.default_rng(0)
    for number in range(count):
        array = np.zeros((16, 16, 3), np.uint8)
        top, left, size = generator.integers(2, 8, 3)
        array[top : top + size, left : left + size, number % 2] = generator.integers(100, 256)
        path = folder / ("red", "green")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    return f"folder:{folder}"


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> str:
    return draw_squares(tmp_path_factory.mktemp("several") / "squares", 60)


@pytest.fixture(scope="module")
def vae(images, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("several-vae") / "vae"
    options = [*OPTIONS, "--latent-size", "8", "--max-steps", "20", "--dataset", images, "--out", str(folder)]
    run_forked("train/vae.py", *options)
    return str(folder)


@pytest.fixture
def command(images, vae, tmp_path) -> list[str]:
    return ["train/ldm.py", *OPTIONS, "--vae", vae, "--dataset", images, "--out", str(tmp_path / "run")]


def losses(run_dir: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run_dir / "train_log.jsonl").read_text().splitlines()]


def test_two_processes_in_two_passes_a_step_train_as_one_does_in_one(command, tmp_path):
    run_command(*LAUNCH, *command, "--max-steps", "20")
    (tmp_path / "run").rename(tmp_path / "alone")
    passes = ["--batch-size", "4", "--gradient-accumulation-steps", "2"]
    run_forked(*FORKING, *command, *passes, "--max-steps", "20")
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
    assert len(losses(tmp_path / "run")) == 20
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {path.name for path in (tmp_path / "alone").iterdir()}


def test_two_processes_measure_as_one_does(tmp_path, vae):
    images = draw_squares(tmp_path / "squares", 900)
    options = ["--dataset", images, "--image-side", "16", "--max-steps", "2", "--threads", "1"]
    run_forked("train/features.py", *options, "--out", str(tmp_path / "features"))
    run_forked("train/ldm.py", *OPTIONS, *options[:6], "--vae", vae, "--out", str(tmp_path / "run"))
    measure = ["train/evaluate.py", str(tmp_path / "run"), "--quick", "--steps", "1", "--threads", "1"]
    figures = {}
    for name, launcher in (("one", []), ("two", FORKING)):
        run_forked(*launcher, *measure)
        measured = json.loads((tmp_path / "run" / "metrics.json").read_text())["evaluation_unipc_1_quick"]
        figures[name] = {f"{part} {key}": value for part in SECTIONS for key, value in measured[part].items()}
    for name in [name for name, value in figures["one"].items() if not isinstance(value, int | float)]:
        assert figures["two"].pop(name) == figures["one"].pop(name)  # words, and what is not measured
    assert figures["two"] == pytest.approx(figures["one"], rel=1e-4)


def test_a_folder_that_holds_a_run_is_refused_by_all_processes_together(command, tmp_path):
    RunFolder(tmp_path / "run").write_text("train_config.json", "{}")
    RunFolder(tmp_path / "run").write_text("train_log.jsonl", "")
    process = Forked(*FORKING, *command, "--max-steps", "20")
    output = finish(process)
    assert process.returncode != 0
    assert output.count("already holds a run: go on with --resume") == 1, output
    assert "Connection" not in output, output


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the ranks through /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_dies_ends_the_run_and_leaves_a_state_that_resumes(command, tmp_path, rank):
    run_dir = tmp_path / "run"
    process = start(sys.executable, "-m", *TORCHRUN, *command, "--max-steps", "100000", "--save-every-steps", "5")
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while latest_state(run_dir) is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    ranks = {int(_environment(pid)["RANK"]): pid for pid in children(process.pid) if "RANK" in _environment(pid)}
    os.kill(ranks[rank], signal.SIGKILL)
    output = finish(process)
    assert process.returncode != 0
    assert output.count("another process of this run is gone: go on from step") <= 1, output
    if rank == 1:
        assert "go on from step" in output, output
    step = int(latest_state(run_dir).name.removeprefix("state-"))
    assert step >= 5
    resumed = Forked(*FORKING, *command, "--max-steps", "100000", "--save-every-steps", "5", "--resume")
    while max(logged_steps(run_dir), default=0) <= step + 5 and resumed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(resumed.pid, signal.SIGINT)
    assert "--resume" in finish(resumed)
    steps = logged_steps(run_dir)
    assert steps == list(range(1, len(steps) + 1))


def _environment(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(entry.decode(errors="replace").split("=", 1) for entry in entries if b"=" in entry)
