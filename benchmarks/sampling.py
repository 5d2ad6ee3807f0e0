"""64 images by the app's default sampler, beside DDIM with 50 evaluations and DDPM with 1000: seconds with decoding.

Of the default sampler as few evaluations are taken as give a feature FD that is at most 5 % above the other's, by the
figures that `python train/evaluate.py CHECKPOINT --quick` stored with --sampler and --steps; a student that reaches it
takes the place of the default sampler where its evaluations are fewer. Both in turn, after one pair that does not
count; DDPM three times, as it takes minutes. `python benchmarks/sampling.py [CHECKPOINT [STUDENT ...]]`
"""

import statistics
import sys
import time
from collections.abc import Sequence
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


def ways(checkpoint: Checkpoint, students: Sequence[Checkpoint]) -> list[tuple[Checkpoint, str, int, float]]:
    """Whom to sample, how, with how many evaluations, and the FD: those of the fewest evaluations first."""
    own = [(checkpoint, *way, fd) for way, fd in stored_fds(checkpoint).items() if way[0] == DEFAULT_SAMPLER]
    made_for = [
        (student, *way, fd)
        for student in students
        for way, fd in stored_fds(student).items()
        if way == student.sampling
    ]
    return sorted(own + made_for, key=lambda way: way[2])


def seconds(checkpoint: Checkpoint, sampler: str, num_steps: int) -> float:
    pipeline = checkpoint.pipeline
    labels = balanced_labels(BATCH_IMAGES, checkpoint.spec).tolist() if pipeline.denoiser.num_classes else None
    start = time.perf_counter()
    pipeline(labels, range(BATCH_IMAGES), num_inference_steps=num_steps, sampler=sampler, output_type="pt")
    return time.perf_counter() - start


def main(folder: Path, *students: Path) -> None:
    use_cores(None)
    checkpoint = read_checkpoint(folder)
    fds, tried = stored_fds(checkpoint), ways(checkpoint, [read_checkpoint(student) for student in students])
    print(f"{conditions()}, {folder.name}, {BATCH_IMAGES} images")
    for sampler, num_steps, rounds in REFERENCES:
        if (sampler, num_steps) not in fds:
            print(f"measure it first: train/evaluate.py {folder} --quick --sampler {sampler} --steps {num_steps}")
            continue
        wanted = EQUAL * fds[sampler, num_steps]
        enough = [way for way in tried if way[3] <= wanted]
        if not enough:
            print(f"no stored way of sampling reaches {wanted:.3g} % with less: measure more")
            continue
        whom, *way, fd = enough[0]
        pairs = [(seconds(whom, *way), seconds(checkpoint, sampler, num_steps)) for _ in range(rounds + 1)][1:]
        ratios = [theirs / ours for ours, theirs in pairs]
        ours, theirs = (statistics.median(pair[which] for pair in pairs) for which in (0, 1))
        print(f"{whom.name}, {way[0]} {way[1]}: {ours:.2f} s, FD {fd:.3g} %", end="; ")
        print(f"{sampler} {num_steps}: {theirs:.2f} s, FD {fds[sampler, num_steps]:.3g} %", end="; ")
        print(f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}, {rounds} pairs)")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:] or [shipped_checkpoints() / "fashion_mnist" / "ldm-8x8x4-cosine"]))
