"""64 images by the app's default sampler, by DDIM with 50 evaluations and by DDPM with 1000: seconds with decoding.

All three in turn, five times after one that does not count (DDPM once: it takes minutes). The distances that make the
times comparable are those of `python train/evaluate.py CHECKPOINT --quick`, with --sampler and --steps as here.
`python benchmarks/sampling.py [CHECKPOINT]`
"""

import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import diffusers
import torch

from ldm_explorer.checkpoints import SHIPPED_CHECKPOINTS, load_pipeline
from ldm_explorer.latents import BATCH_IMAGES
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.samplers import DEFAULT_NUM_STEPS, DEFAULT_SAMPLER
from ldm_explorer.training import use_cores

ROUNDS = 5
REFERENCES = (("ddim", 50, ROUNDS), ("ddpm", 1000, 1))


def seconds(pipeline: LatentDiffusionPipeline, sampler: str, num_steps: int) -> float:
    labels = [index % pipeline.null_class for index in range(BATCH_IMAGES)]
    start = time.perf_counter()
    pipeline(labels, range(BATCH_IMAGES), num_inference_steps=num_steps, sampler=sampler, output_type="pt")
    return time.perf_counter() - start


def main(folder: Path) -> None:
    use_cores(None)
    pipeline = load_pipeline(folder)
    print(f"Python {platform.python_version()}, torch {torch.__version__}, diffusers {diffusers.__version__}", end=", ")
    print(f"{torch.get_num_threads()} threads, {folder.name}, {BATCH_IMAGES} images")
    seconds(pipeline, DEFAULT_SAMPLER, DEFAULT_NUM_STEPS)
    for sampler, num_steps, rounds in REFERENCES:
        pairs = [
            (seconds(pipeline, DEFAULT_SAMPLER, DEFAULT_NUM_STEPS), seconds(pipeline, sampler, num_steps))
            for _ in range(rounds)
        ]
        ratios = [theirs / ours for ours, theirs in pairs]
        ours, theirs = (statistics.median(pair[which] for pair in pairs) for which in (0, 1))
        print(f"{DEFAULT_SAMPLER} {DEFAULT_NUM_STEPS}: {ours:.2f} s, {sampler} {num_steps}: {theirs:.2f} s", end=", ")
        print(f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}, {rounds} rounds)")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else SHIPPED_CHECKPOINTS / "fashion_mnist" / "ldm-8x8x4-cosine")
