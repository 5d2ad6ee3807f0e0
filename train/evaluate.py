"""Measure checkpoints: `python train/evaluate.py checkpoints/fashion_mnist/*`. Definitions are in the README."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint, update_metrics
from ldm_explorer.data import DatasetSpec, crop, load_split, to_model, to_uint8
from ldm_explorer.diagnosis.reading import read_loss
from ldm_explorer.evaluation.features import extract_features, feature_fd_percent, predict_classes
from ldm_explorer.evaluation.generation import decoded_noise, generate
from ldm_explorer.evaluation.reconstruction import PCA, psnr_db, reconstruct, ssim
from ldm_explorer.explore.library import classifier_folder, load_classifier
from ldm_explorer.latents import BATCH_IMAGES, LatentCodec, latent_shape
from ldm_explorer.samplers import DEFAULT_SAMPLER, SAMPLERS
from train.common import main_of

SEEDS = (0, 1, 2)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Options of train/evaluate.py."""

    checkpoints: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Checkpoint folders, of autoencoders or of whole pipelines."""
    data_dir: Path | None = None
    """Folder with the dataset's own files; by default they are found on the system or downloaded."""
    features: Path | None = None
    """Folder of the classifier, made by train/features.py. Default: the shipped one, else one beside the checkpoint."""
    sampler: Literal[tuple(SAMPLERS)] = DEFAULT_SAMPLER
    steps: int = 25
    """Network evaluations per sample."""
    quick: bool = False
    """2,000 samples and one seed, stored in columns of their own."""
    threads: int = torch.get_num_threads()
    """CPU threads."""

    def __post_init__(self) -> None:
        if not self.checkpoints:
            raise ValueError("give at least one checkpoint folder")
        if not 1 <= self.steps <= 1000 or self.threads < 1:
            raise ValueError(f"--steps is {self.steps} and --threads {self.threads}: give 1 to 1000, and at least 1")

    @property
    def num_samples(self) -> int:
        return 2_000 if self.quick else 10_000

    @property
    def seeds(self) -> tuple[int, ...]:
        return SEEDS[:1] if self.quick else SEEDS


class Evaluator:
    """Holds what all checkpoints of a dataset are measured against, computed once."""

    def __init__(self, config: EvaluateConfig, checkpoint: Checkpoint, classifier: Path):
        self.config, self.spec, dataset = config, checkpoint.spec, checkpoint.dataset
        self.network = load_classifier(classifier, checkpoint)
        place = {"data_dir": config.data_dir, "image_side": checkpoint.config.get("image_side")}
        self.training, self.test, held_out = (
            load_split(dataset, split, **place) for split in ("train", "test", "validation")
        )
        self.test_images = crop(self.test.images, self.spec)
        self.test_features = extract_features(self.network, self.test_images)
        self.knows_the_classes = self.network.config.num_classes == self.spec.num_classes
        right = predict_classes(self.network, self.test_features) == self.test.labels
        self.classifier_accuracy = float(right.float().mean()) if self.knows_the_classes else None
        held_out_features = extract_features(self.network, crop(held_out.images, self.spec))
        self.fd_floor_percent = feature_fd_percent(held_out_features, self.test_features)
        self.pca = PCA.fit(to_model(crop(self.training.images, self.spec)))

    def fd_percent(self, images: Tensor) -> float:
        return feature_fd_percent(extract_features(self.network, images), self.test_features)

    def reconstruction(self, codec: LatentCodec) -> dict[str, Any]:
        """PSNR, SSIM, rFD and KL on the test set, beside PCA of as many dimensions."""
        reference = to_model(self.test_images)
        images = reconstruct(codec, self.test.images, self.spec)
        values = math.prod(latent_shape(codec.vae))
        pixels = reference[0].numel()
        lossless = values >= pixels
        return {
            "num_images": len(images),
            "values": values,
            "pixels": pixels,
            "psnr_db": float(psnr_db(images, reference).mean()),
            "ssim": float(ssim(images, reference).mean()),
            "pca_psnr_db": None
            if lossless
            else float(psnr_db(self.pca.reconstruct(reference, values), reference).mean()),
            "rfd_percent": self.fd_percent(to_uint8(images)),
            "fd_floor_percent": self.fd_floor_percent,
        }

    def generation(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Feature FD and class consistency of balanced samples at guidance 1, mean and spread over sampling seeds."""
        config, pipeline = self.config, checkpoint.pipeline
        distances, consistencies, deviations = [], [], []
        for seed in config.seeds:
            arguments = (pipeline, self.spec, config.num_samples, seed)
            batches = generate(*arguments, num_steps=config.steps, sampler=config.sampler)
            total = -(-config.num_samples // BATCH_IMAGES)
            batches = list(tqdm(batches, f"sampling {checkpoint.name}, seed {seed}", total))
            features = extract_features(self.network, torch.cat([batch.images for batch in batches]))
            labels = torch.cat([batch.labels for batch in batches])
            distances.append(feature_fd_percent(features, self.test_features))
            consistencies.append(float((predict_classes(self.network, features) == labels).float().mean()))
            deviations.append(float(torch.cat([batch.latents for batch in batches]).std()))
        noise = decoded_noise(pipeline.codec, pipeline.latent_shape, self.spec, config.num_samples)
        return {
            "num_images": config.num_samples,
            "seeds": list(config.seeds),
            "sampler": config.sampler,
            "evaluations": config.steps,
            "fd_percent": _mean(distances),
            "fd_percent_spread": max(distances) - min(distances),
            "fd_floor_percent": self.fd_floor_percent,
            "fd_decoded_noise_percent": self.fd_percent(noise),
            "class_consistency": _mean(consistencies) if pipeline.null_class and self.knows_the_classes else None,
            "classifier_accuracy": self.classifier_accuracy,
            "latents_std": _mean(deviations),
        }


def _classifier(config: EvaluateConfig, checkpoint: Checkpoint) -> Path:
    """The folder of the classifier to measure a checkpoint with. Raises `ValueError` when there is none."""
    folder = config.features or classifier_folder(checkpoint)
    if folder is not None:
        return folder
    if not checkpoint.spec.num_classes:
        raise ValueError(
            f"{checkpoint.name} was trained on images without classes: distances are measured in the features of a "
            "classifier, so give the folder of one of similar images with --features"
        )
    raise ValueError(
        f"no classifier to measure {checkpoint.name} with: train one with train/features.py --dataset "
        f"{checkpoint.dataset}, or give the folder of one with --features"
    )


def loss_figures(checkpoint: Checkpoint) -> dict[str, Any]:
    """The logged validation loss beside the floors of the latents it was trained on."""
    reading = read_loss(checkpoint)
    return {
        "prediction": reading.prediction_type,
        "validation_last_tenth": reading.validation_last_tenth,
        "validation_minimum": reading.validation_minimum,
        "validation_per_bin": list(reading.validation_per_bin),
        "floors": reading.mean_floors,
        "floors_per_bin": reading.floors_per_bin(),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def evaluate(evaluator: Evaluator, checkpoint: Checkpoint) -> dict[str, Any]:
    """All figures of one checkpoint, floats rounded to five digits."""
    figures = {"reconstruction": evaluator.reconstruction(LatentCodec(checkpoint.vae))}
    if checkpoint.kind == "ldm":
        figures |= {"loss": loss_figures(checkpoint), "generation": evaluator.generation(checkpoint)}
    conditions = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    return _rounded(figures | {"conditions": conditions})


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


COLUMNS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "values": lambda m: m["reconstruction"]["values"],
    "PSNR dB": lambda m: m["reconstruction"]["psnr_db"],
    "PCA dB": lambda m: m["reconstruction"]["pca_psnr_db"] or "lossless",
    "SSIM": lambda m: m["reconstruction"]["ssim"],
    "rFD %": lambda m: m["reconstruction"]["rfd_percent"],
    "FD %": lambda m: m["generation"]["fd_percent"],
    "spread": lambda m: m["generation"]["fd_percent_spread"],
    "floor %": lambda m: m["reconstruction"]["fd_floor_percent"],
    "noise FD %": lambda m: m["generation"]["fd_decoded_noise_percent"],
    "consistency": lambda m: m["generation"]["class_consistency"],
    "classifier": lambda m: m["generation"]["classifier_accuracy"],
    "latent std": lambda m: m["generation"]["latents_std"],
    "val loss": lambda m: m["loss"]["validation_last_tenth"],
    "class Gaussian": lambda m: m["loss"]["floors"].get("gaussian_per_class"),
    "Gaussian": lambda m: m["loss"]["floors"]["gaussian"],
    "white": lambda m: m["loss"]["floors"]["white"],
    "zero": lambda m: m["loss"]["floors"]["zero"],
}


def table(results: dict[str, dict[str, Any]]) -> str:
    """A Markdown table with one row per checkpoint; a figure that a checkpoint does not have is a dash."""

    def cell(column: Callable, figures: dict[str, Any]) -> str:
        try:
            value = column(figures)
        except KeyError:
            value = None
        if value is None:
            return "-"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    rows = [["checkpoint", *COLUMNS], ["---"] * (len(COLUMNS) + 1)]
    rows += [[name, *(cell(column, figures) for column in COLUMNS.values())] for name, figures in results.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(config: EvaluateConfig) -> None:
    torch.set_num_threads(config.threads)
    checkpoints = [read_checkpoint(folder) for folder in config.checkpoints if not (folder / "features").exists()]
    evaluators: dict[tuple[str, DatasetSpec, Path], Evaluator] = {}
    results = {}
    for checkpoint in checkpoints:
        ruler = (checkpoint.dataset, checkpoint.spec, _classifier(config, checkpoint))
        if ruler not in evaluators:
            evaluators[ruler] = Evaluator(config, checkpoint, ruler[-1])
        results[checkpoint.name] = evaluate(evaluators[ruler], checkpoint)
        update_metrics(
            checkpoint.folder, "evaluation_quick" if config.quick else "evaluation", results[checkpoint.name]
        )
    print(table(results))


if __name__ == "__main__":
    main_of(EvaluateConfig, main)
