"""What the same CPU-seconds buy: our two stages, pixel diffusion by plain diffusers, and denoising-diffusion-pytorch.

    python benchmarks/peers.py OUT [CPU_SECONDS]

900 CPU-seconds by default, from loading the images to the trained network: of ours with the autoencoder, encoding,
validation and export, of the peers the bare loop. Each peer has two learning rates, its own default and a higher one;
ours has its default, two seeds, and budgets of a third and an eighth as well. Feature FD is of 1,000 images by each
one's fast sampler (ours UniPC with 10 evaluations, theirs DDIM with 50), at a third and two thirds of the budget and at
its end, and of 256 images by that and by DDPM with all 1,000. Sampling and measuring do not count. What competes is in
peer_models.py.

What is done is kept in OUT and not done again, piece by piece: a training, and each look at its networks. One table
shows all of it, in OUT/peers.md as far as it has come. `OMP_NUM_THREADS=1` for one thread. denoising-diffusion-pytorch
takes part where it is installed, by `pip install -e .[peers]`.
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from conditions import conditions
from peer_budget import Budget
from peer_models import COMPETITORS, DATASET, SPEC, precision, versions
from peer_results import Entry, Results, entries, table, verdicts

from ldm_explorer.atomic import write_text
from ldm_explorer.evaluation.classifier import classifier_folder
from ldm_explorer.evaluation.config import EvaluationConfig
from ldm_explorer.evaluation.evaluator import Evaluation
from ldm_explorer.evaluation.features import predict_classes
from ldm_explorer.evaluation.inputs import ImageInputs
from ldm_explorer.evaluation.reference import Reference
from ldm_explorer.training.processes import keep_freed_memory

SECONDS = 900.0
IMAGES, IMAGES_OF_FULL = 1000, 256
SAMPLING_SEED = 0
REPORT = "peers.md"


def train(entry: Entry, results: Results) -> dict[str, Any]:
    """Train from the start, and say when the networks to be looked at were kept: None where there was none."""
    folder = results.folder_of(entry)
    shutil.rmtree(folder, ignore_errors=True)  # what a stopped training left
    folder.mkdir()
    began, budget = time.monotonic(), Budget(entry.share * results.seconds, folder)
    with torch.random.fork_rng():
        COMPETITORS[entry.competitor].train(entry.learning_rate, entry.seed, budget)
    return {"points": budget.points, "precision": precision(), "wall_seconds": round(time.monotonic() - began, 1)}


def look(entry: Entry, folder: Path, reference: Reference, count: int, full: bool = False) -> dict[str, Any]:
    """Sample from a network and measure the images."""
    began = time.process_time()
    images, labels = COMPETITORS[entry.competitor].sample(folder, count, SAMPLING_SEED, full)
    cpu_seconds = time.process_time() - began
    inputs = ImageInputs(reference, images)
    predicted = predict_classes(reference.network, inputs.features)
    return {
        "images": count,
        "sampling_cpu_seconds_of_64": round(64 * cpu_seconds / count, 3),
        "fd_percent": reference.fd_percent(images),
        "fd_percent_of_256": reference.fd_percent(images[:IMAGES_OF_FULL]),
        "coverage": inputs.variety.coverage,
        "class_consistency": None if labels is None else float((predicted == labels).double().mean()),
    }


def compete(results: Results, reference: Reference) -> None:
    """Do what is not done yet: the full samplers last, each on the best of a competitor's trainings."""
    for entry in entries():
        results.piece(entry, "training", lambda entry=entry: train(entry, results))
        for mark, point in results.of(entry)["training"]["points"].items():
            if point is not None:
                arguments = entry, results.folder_of(entry) / mark, reference
                results.piece(entry, mark, lambda arguments=arguments: look(*arguments, IMAGES))
        report(results, reference)
    for best in filter(None, map(results.best_of, COMPETITORS)):
        arguments = best, results.folder_of(best) / "end", reference
        results.piece(best, "full", lambda arguments=arguments: look(*arguments, IMAGES_OF_FULL, full=True))
        report(results, reference)


def report(results: Results, reference: Reference) -> str:
    """Everything so far, floors first; it is also written beside the results."""
    lines = [*results.content["conditions"], ""]
    for count in (IMAGES, IMAGES_OF_FULL):
        real = reference.context(count)
        lines += [f"{count} real images: FD {real['fd_floor_percent']:.3g} %, coverage {real['coverage_of_real']:.3g}"]
    lines += [f"the classifier's accuracy: {reference.classifier_accuracy:.3g}", "", table(results), ""]
    text = "\n".join([*lines, *verdicts(results)])
    write_text(results.folder / REPORT, f"{text}\n")
    return text


def main(folder: Path, seconds: float) -> None:
    results = Results(folder, seconds)
    keep_freed_memory()  # for all alike: our trainings do it for themselves
    header = f"{conditions()}, {versions()}"
    print(header, flush=True)
    results.began(header)
    classifier = classifier_folder(DATASET, folder)
    reference = Evaluation(EvaluationConfig(dataset=DATASET)).reference(DATASET, None, SPEC, classifier)
    compete(results, reference)
    print(f"\n{report(results, reference)}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), float(sys.argv[2]) if sys.argv[2:] else SECONDS)
