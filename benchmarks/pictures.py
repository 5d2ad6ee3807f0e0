"""A folder of pictures read from a memory map on disk, beside the same pictures in memory.

`python benchmarks/pictures.py [COUNT [FOLDER]]`, 200,000 pictures of 64x64 pixels by default, made in a temporary
folder that is gone afterwards (FOLDER keeps it). Two figures: the memory of a process of its own that trains an
autoencoder, stops, resumes, and trains a denoiser on its latents; and images per second of the autoencoder's loop with
the pictures on disk and in memory, in turn. The networks are small, so that reading counts.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate.state import AcceleratorState
from conditions import conditions
from PIL import Image

from ldm_explorer.data import ImageSet, load_split
from ldm_explorer.training import fit, make_accelerator, train
from ldm_explorer.training.tasks.autoencoder import AutoencoderTask, AutoencoderTraining, VAETrainConfig
from ldm_explorer.training.tasks.denoiser import DenoiserTraining, LDMTrainConfig

SIDE, CLASSES, STEPS, PAIRS = 64, 10, 40, 5
VAE = {"latent_size": 16, "widths": (16, 16, 16)}
LDM = {"widths": (16, 32), "batch_size": 16}
PART = 2000
"""Pictures that a worker makes at a time."""


def draw(folder: Path, first: int) -> None:
    """Waves in three colours, no two alike, `PART` of them from number `first` on."""
    random = np.random.default_rng(first)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    for number in range(first, first + PART):
        frequency, phase = random.uniform(1, 9, (3, 2)), random.uniform(0, 6, (3, 1, 1))
        waves = np.sin(frequency[:, :1, None] * x + frequency[:, 1:, None] * y + phase)
        path = folder / str(number % CLASSES) / f"{number:06d}.png"
        Image.fromarray((127.5 + 127 * waves).astype(np.uint8).transpose(1, 2, 0)).save(path, compress_level=1)


def make_folder(folder: Path, count: int) -> None:
    for label in range(CLASSES):
        (folder / str(label)).mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(draw, folder), range(0, count, PART)))


def anonymous_megabytes() -> float:
    """What only this process has in memory: neither files nor what is shared."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


class Watch:
    """The most of it while a block runs."""

    def __enter__(self) -> "Watch":
        self.peak, self.ended = 0.0, threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.thread.join()

    def _look(self) -> None:
        while not self.ended.wait(0.02):
            self.peak = max(self.peak, anonymous_megabytes())


def trainings(dataset: str, out: Path) -> None:
    """In a process of its own: what it takes in memory, as a line of JSON."""
    common = {"dataset": dataset, "memory_map": "always", "max_steps": STEPS}
    vae = {"out": out / "vae", **VAE, **common}
    peaks = {"before anything": anonymous_megabytes()}
    with Watch() as watch:
        steps = train(AutoencoderTraining(VAETrainConfig(**vae)))
        for _ in range(STEPS // 2):
            next(steps)
        steps.close()
    peaks["autoencoder, until it was stopped"] = watch.peak
    with Watch() as watch:
        resumed = [step.step for step in train(AutoencoderTraining(VAETrainConfig(**vae, resume=True)))]
    assert resumed == list(range(STEPS // 2 + 1, STEPS + 1))
    peaks["autoencoder, resumed"] = watch.peak
    with Watch() as watch:
        list(train(DenoiserTraining(LDMTrainConfig(vae=out / "vae", out=out / "ldm", **LDM, **common))))
    peaks["denoiser"] = watch.peak
    print(json.dumps(peaks))


def images_per_second(images: ImageSet, config: VAETrainConfig) -> float:
    """Of the loop, without its first steps and the last, which also saves."""
    AcceleratorState._reset_state(reset_partial_state=True)
    task = AutoencoderTask(config, images, ImageSet(images.images[:8], images.labels[:8]))
    with tempfile.TemporaryDirectory() as folder:
        ends = [time.perf_counter() for _ in fit(task, config, make_accelerator(config, Path(folder)), Path(folder))]
    return (len(ends) - 6) * config.batch_size / (ends[-2] - ends[4])


def batches_per_second(images: ImageSet, config: VAETrainConfig, count: int = 2000) -> float:
    """Of the batches alone, at random places."""
    task, generator = AutoencoderTask(config, images, images), torch.Generator().manual_seed(0)
    start = time.perf_counter()
    for _ in range(count):
        task.batch(torch.randint(len(images), (config.batch_size,), generator=generator), generator)
    return count / (time.perf_counter() - start)


def compare(dataset: str) -> None:
    options = {"dataset": dataset, "memory_map": "always", "max_steps": 3 * STEPS, "validate_every_steps": 10_000}
    config = VAETrainConfig(**VAE, **options, precision="fp32")
    on_disk = load_split(dataset, "train", None, None, "always")
    in_memory = ImageSet(on_disk.images.clone(), on_disk.labels)
    for name, measured in (("images/s of the loop", images_per_second), ("batches/s alone", batches_per_second)):
        pairs = [(measured(on_disk, config), measured(in_memory, config)) for _ in range(PAIRS + 1)][1:]
        disk, memory = (statistics.median(pair[which] for pair in pairs) for which in (0, 1))
        ratios = sorted(ours / theirs for ours, theirs in pairs)
        print(f"{name}: on disk {disk:.1f}, in memory {memory:.1f}, ratio {statistics.median(ratios):.3f}", end=" ")
        print(f"(from {ratios[0]:.3f} to {ratios[-1]:.3f}, {PAIRS} pairs)")


def main(count: int, folder: Path) -> None:
    print(conditions())
    if not folder.exists():
        make_folder(folder, count)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        os.environ["XDG_CACHE_HOME"] = scratch
        dataset = f"folder:{folder}"
        start = time.perf_counter()
        command = [sys.executable, __file__, "--trainings", dataset, scratch]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        print(f"{count:,} pictures, decoded and trained on in {time.perf_counter() - start:.0f} s; anonymous memory")
        for what, megabytes in json.loads(output).items():
            print(f"  {what}: {megabytes:,.0f} MB")
        compare(dataset)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--trainings"]:
        trainings(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[2:]:
        main(int(sys.argv[1]), Path(sys.argv[2]).resolve())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(int(sys.argv[1]) if sys.argv[1:] else 200_000, Path(temporary) / "pictures")
