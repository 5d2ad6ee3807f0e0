"""Where the classifier of a dataset lies, in whose features distances are measured, and what it knows."""

from pathlib import Path
from typing import TypeVar

from ldm_explorer.data import DATASETS, DatasetSpec
from ldm_explorer.evaluation.features import FeatureNet, ImageClassifier
from ldm_explorer.evaluation.further_networks import FURTHER_NETWORKS
from ldm_explorer.files import CheckpointError
from ldm_explorer.network_files import load_model
from ldm_explorer.run_files import read_run_config, read_spec
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import CLASSIFIER, CLASSIFIER_RUN, holds_classifier
from ldm_explorer.shipped import find_shipped_checkpoints

FURTHER_RUNS = {name: f"{CLASSIFIER_RUN}-{name}" for name in FURTHER_NETWORKS}
"""The runs of the further networks, by their names."""

Classifier = TypeVar("Classifier", bound=ImageClassifier)


def classifier_folder(dataset: str, beside: Path, run: str = CLASSIFIER_RUN) -> Path | None:
    """Where the classifier of a dataset is: shipped, else in the folder `beside`, where a checkpoint lies.

    `run` is that of the classifier which measures are of, or one of `FURTHER_RUNS`.
    """
    folders, shipped = [beside / run], find_shipped_checkpoints()
    if shipped and dataset in DATASETS:  # else it may be any path
        folders.insert(0, shipped / dataset / run)
    return next((folder for folder in folders if _may_hold_classifier(folder)), None)


def further_folders(dataset: str, beside: Path) -> dict[str, Path]:
    """Where the further networks of a dataset are, by name, as far as there are any."""
    found = {name: classifier_folder(dataset, beside, run) for name, run in FURTHER_RUNS.items()}
    return {name: folder for name, folder in found.items() if folder is not None}


def _may_hold_classifier(folder: Path) -> bool:
    """Also of a run whose list of files cannot be read; whoever loads it is told so."""
    try:
        return holds_classifier(RunFolder(folder))
    except (CheckpointError, OSError):
        return True


def load_classifier(folder: Path, spec: DatasetSpec) -> FeatureNet:
    """Raises `CheckpointError` for a folder that holds none, or one that takes other images than a dataset's."""
    return _fitting(load_model(FeatureNet, folder, CLASSIFIER), folder, spec)


def load_further(name: str, folder: Path, spec: DatasetSpec) -> ImageClassifier:
    """The same of a further network."""
    return _fitting(load_model(FURTHER_NETWORKS[name], folder, CLASSIFIER), folder, spec)


def _fitting(network: Classifier, folder: Path, spec: DatasetSpec) -> Classifier:
    if network.config.channels != spec.channels:
        raise CheckpointError(
            f"the classifier in {folder} takes images of {network.config.channels} channel(s), these have "
            f"{spec.channels}"
        )
    return network


def knows_classes(folder: Path, spec: DatasetSpec) -> bool:
    """Whether the classifier in a folder was trained on the classes of a dataset. Raises `CheckpointError`."""
    dataset = DATASETS.get(read_run_config(folder).get("dataset", ""))
    trained_on = read_spec(folder) or (dataset.spec if dataset else None)
    return trained_on is not None and trained_on.class_names == spec.class_names
