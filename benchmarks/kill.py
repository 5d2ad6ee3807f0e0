"""Kill a training and an export at random moments, in folders with files of somebody else's, and see what is left.

Prints how many of the kills came while something was being written, whether the weights at the end are those of a run
that nobody killed, bit for bit, whether the foreign files are as they were, and whether anything lies about that is
not in the folder of a run that nobody killed. `python benchmarks/kill.py [KILLS]`, so many of each kind.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from foreign_files import contents, move_away, plant, unchanged
from helpers import draw_shapes
from torchvision.transforms.functional import to_pil_image
from tqdm import tqdm

from ldm_explorer.run_folder import MARK
from ldm_explorer.run_layout import LOG_FILE
from ldm_explorer.training import latest_state

REPO = Path(__file__).resolve().parents[1]
STEPS_PER_KILL = 60
MAX_SECONDS_OF_TRAINING = 1.0
NUM_IMAGES = 80
OPTIONS = [
    "--image-side",
    "32",
    "--layers-per-block",
    "1",
    "--batch-size",
    "4",
    "--threads",
    "1",
    "--precision",
    "fp32",
]
OPTIONS += ["--save-every-steps", "1", "--log-every-steps", "5"]
VAE = ["train/vae.py", *OPTIONS, "--latent-size", "8", "--widths", "16"]
LDM = ["train/ldm.py", *OPTIONS, "--widths", "16", "32", "--max-steps", "4"]


def start(command: list[str], run_dir: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *command, "--resume", "--out", str(run_dir)],
        cwd=REPO,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def finish(command: list[str], run_dir: Path) -> None:
    if start(command, run_dir).wait():
        raise SystemExit(f"{command[0]} did not finish")


def kill(process: subprocess.Popen, run_dir: Path, seconds: float) -> bool:
    """Kill a run after a while; whether it was writing something."""
    time.sleep(seconds)
    if process.poll() is not None and process.returncode:
        raise SystemExit(f"the run failed by itself, exit status {process.returncode}")
    os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
    process.wait()
    return any(run_dir.glob(f"{MARK}/tmp/*"))


def newest_step(run_dir: Path) -> int:
    state = latest_state(run_dir)
    return int(state.name.removeprefix("state-")) if state else 0


def kill_training(command: list[str], run_dir: Path, moment: random.Random) -> bool:
    """Let the run get ahead, and kill it some time later."""
    process, before = start(command, run_dir), newest_step(run_dir)
    while newest_step(run_dir) <= before and process.poll() is None:
        time.sleep(0.002)
    return kill(process, run_dir, moment.uniform(0, MAX_SECONDS_OF_TRAINING))


def wait_for_change(file: Path, before: int, process: subprocess.Popen) -> None:
    while file.stat().st_mtime_ns == before and process.poll() is None:
        time.sleep(0.001)


def start_export(command: list[str], run_dir: Path) -> subprocess.Popen:
    """Start a run that was trained to its end, and wait until it has loaded all it needs and opens its log."""
    before, process = (run_dir / LOG_FILE).stat().st_mtime_ns, start(command, run_dir)
    wait_for_change(run_dir / LOG_FILE, before, process)
    return process


def seconds_of_export(command: list[str], run_dir: Path) -> float:
    """How long it takes from there to the card, which is written last."""
    before, process = (run_dir / "README.md").stat().st_mtime_ns, start_export(command, run_dir)
    began = time.monotonic()
    wait_for_change(run_dir / "README.md", before, process)
    seconds = time.monotonic() - began
    process.wait()
    return seconds


def report(kind: str, in_writing: list[bool], whole: Path, killed: Path, planted: dict[str, bytes]) -> bool:
    """Print what is left; whether it is as it should be."""
    ends = [contents(run_dir) for run_dir in (whole, killed)]
    ours = {name for name in ends[1] if name not in planted}
    weights = {name for name in ends[0] if name.endswith((".safetensors", "config.json"))}
    verdicts = {
        "the weights of a run that nobody killed, bit for bit": all(
            ends[0][name] == ends[1].get(name) for name in weights
        ),
        f"{len(planted)} foreign files as they were": unchanged(killed, planted),
        "nothing left over": ours == set(ends[0]),
    }
    print(f"{len(in_writing)} kills of {kind}, {sum(in_writing)} while something was being written:")
    print("".join(f"  {'yes' if is_so else 'NO '} {verdict}\n" for verdict, is_so in verdicts.items()), end="")
    return all(verdicts.values())


def draw_images(folder: Path) -> str:
    folder.mkdir()
    for number, image in enumerate(draw_shapes(NUM_IMAGES, seed=0).images):
        to_pil_image(image).save(folder / f"{number}.png")
    return f"folder:{folder}"


def main(kills: int = 100) -> None:
    moment = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset, vae, killed_vae = draw_images(folder / "shapes"), folder / "vae", folder / "killed vae"
        command = [*VAE, "--dataset", dataset, "--max-steps", str(kills * STEPS_PER_KILL)]
        in_writing = [kill_training(command, killed_vae, moment)]
        planted = move_away(killed_vae, plant(killed_vae, folder / "elsewhere"))
        in_writing += [kill_training(command, killed_vae, moment) for _ in tqdm(range(kills - 1), "killing trainings")]
        print(f"the last kill came after step {newest_step(killed_vae)}")
        for run_dir in (vae, killed_vae):
            finish(command, run_dir)
        trained = report("a training", in_writing, vae, killed_vae, planted)

        ldm, killed_ldm = folder / "ldm", folder / "killed ldm"
        command = [*LDM, "--dataset", dataset, "--vae", str(vae)]
        for run_dir in (ldm, killed_ldm):
            finish(command, run_dir)
        planted = move_away(killed_ldm, plant(killed_ldm, folder / "elsewhere too"))
        longest = seconds_of_export(command, killed_ldm)
        in_writing = [
            kill(start_export(command, killed_ldm), killed_ldm, moment.uniform(0, longest))
            or not (killed_ldm / "model_index.json").exists()
            for _ in tqdm(range(kills), "killing exports")
        ]
        finish(command, killed_ldm)
        exported = report("an export", in_writing, ldm, killed_ldm, planted)
    sys.exit(0 if trained and exported else 1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
