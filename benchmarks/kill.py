"""Kill a training a hundred times at random moments and see that it ends as if nothing had happened.

Prints how many of the kills came while a state was being written, and whether the weights at the end are those of an
uninterrupted run, bit for bit. `python benchmarks/kill.py [KILLS]`
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file
from tqdm import tqdm

REPO = Path(__file__).resolve().parents[1]
STEPS_PER_KILL = 6
MAX_SECONDS_OF_TRAINING = 1.0
COMMAND = [sys.executable, "train/vae.py", "--latent-size", "8", "--widths", "16", "--layers-per-block", "1"]
COMMAND += ["--batch-size", "4", "--threads", "1", "--precision", "fp32"]
COMMAND += ["--save-every-steps", "1", "--log-every-steps", "5"]


def start(run_dir: Path, steps: int) -> subprocess.Popen:
    command = [*COMMAND, "--max-steps", str(steps), "--resume", "--out", str(run_dir)]
    return subprocess.Popen(
        command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def newest_state(run_dir: Path) -> str:
    return max((path.name for path in run_dir.glob("state-*")), default="")


def kill_once(run_dir: Path, steps: int, moment: random.Random) -> bool:
    """Let the run get ahead, kill it some time later; whether a half-written state was left."""
    process, before = start(run_dir, steps), newest_state(run_dir)
    while newest_state(run_dir) <= before and process.poll() is None:
        time.sleep(0.002)
    time.sleep(moment.uniform(0, MAX_SECONDS_OF_TRAINING))
    if process.poll() is not None and process.returncode:
        raise SystemExit(f"the run failed by itself, exit status {process.returncode}")
    os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
    process.wait()
    return bool(list(run_dir.glob(".state-*")))


def main(kills: int = 100) -> None:
    moment, steps = random.Random(0), kills * STEPS_PER_KILL * 10
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        in_writing = sum(kill_once(killed, steps, moment) for _ in tqdm(range(kills), "killing"))
        print(f"{kills} kills, {in_writing} while a state was being written, up to {newest_state(killed)}")
        for run_dir in (killed, whole):
            if start(run_dir, steps).wait():
                raise SystemExit("a run did not finish")
        ends = [load_file(run_dir / newest_state(run_dir) / "state.safetensors") for run_dir in (whole, killed)]
    same = ends[0].keys() == ends[1].keys() and all(ends[0][name].equal(ends[1][name]) for name in ends[0])
    print(f"{kills} clean resumes: {'the' if same else 'NOT the'} weights of an uninterrupted run, bit for bit")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
