"""64 images by the app's default sampler, beside DDIM with 50 evaluations and DDPM with 1000: seconds with decoding.

Of the default sampler as few evaluations are taken as give a feature FD that is at most 5 % above the other's, by the
figures that `python train/evaluate.py CHECKPOINT --quick` stored with --sampler and --steps. Both in turn, after one
pair that does not count; DDPM three times, as it takes minutes. `python benchmarks/sampling.py [CHECKPOINT]`
"""

import statistics
import sys
import time
from pathlib import Path

from conditions import conditions

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.evaluation.generation import balanced_labels
from ldm_explorer.latents import BATCH_IMAGES
from ldm_explorer.samplers import DEFAULT_SAMPLER
from ldm_explorer.shipped import shipped_checkpoints
from ldm_explorer.training import use_cores

REFERENCES = (("ddim", 50, 5), ("ddpm", 1000, 3))
EQUAL = 1.05


def stored_fds(checkpoint: Checkpoint) -> dict[tuple[str, int], float]:
    """Feature FD in percent by sampler and evaluations, of the same 2,000 labels and seeds."""
    quick = (figures for name, figures in checkpoint.metrics.items() if name.endswith("_quick"))
    measured = (figures["generation"] for figures in quick if "generation" in figures)
    return {(figures["sampler"], figures["evaluations"]): figures["fd_percent"] for figures in measured}


def seconds(checkpoint: Checkpoint, sampler: str, num_steps: int) -> float:
    pipeline = checkpoint.pipeline
    labels = balanced_labels(BATCH_IMAGES, checkpoint.spec).tolist() if pipeline.denoiser.num_classes else None
    start = time.perf_counter()
    pipeline(labels, range(BATCH_IMAGES), num_inference_steps=num_steps, sampler=sampler, output_type="pt")
    return time.perf_counter() - start


def main(folder: Path) -> None:
    use_cores(None)
    checkpoint = read_checkpoint(folder)
    fds = stored_fds(checkpoint)
    print(f"{conditions()}, {folder.name}, {BATCH_IMAGES} images")
    for sampler, num_steps, rounds in REFERENCES:
        if (sampler, num_steps) not in fds:
            sys.exit(f"measure it first: train/evaluate.py {folder} --quick --sampler {sampler} --steps {num_steps}")
        wanted = EQUAL * fds[sampler, num_steps]
        enough = [steps for (name, steps), fd in fds.items() if name == DEFAULT_SAMPLER and fd <= wanted]
        if not enough:
            sys.exit(f"no stored number of {DEFAULT_SAMPLER}'s evaluations reaches {wanted:.3g} %: measure more")
        ours = DEFAULT_SAMPLER, min(enough)
        pairs = [(seconds(checkpoint, *ours), seconds(checkpoint, sampler, num_steps)) for _ in range(rounds + 1)][1:]
        ratios = [theirs / ours for ours, theirs in pairs]
        medians = [statistics.median(pair[which] for pair in pairs) for which in (0, 1)]
        for (name, steps), median in zip((ours, (sampler, num_steps)), medians, strict=True):
            print(f"{name} {steps}: {median:.2f} s, FD {fds[name, steps]:.3g} %", end="; ")
        print(f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}, {rounds} pairs)")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else shipped_checkpoints() / "fashion_mnist" / "ldm-8x8x4-cosine")
