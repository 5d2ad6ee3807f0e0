"""Where the classifier of a dataset lies, in whose features distances are measured, and what it knows."""

from pathlib import Path

from ldm_explorer.data import DATASETS, DatasetSpec
from ldm_explorer.evaluation.features import FeatureNet
from ldm_explorer.files import CheckpointError
from ldm_explorer.network_files import load_model
from ldm_explorer.run_files import read_run_config, read_spec
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import CLASSIFIER, CLASSIFIER_RUN, holds_classifier
from ldm_explorer.shipped import find_shipped_checkpoints


def classifier_folder(dataset: str, beside: Path) -> Path | None:
    """Where the classifier of a dataset is: shipped, else in the folder `beside`, where a checkpoint lies."""
    folders, shipped = [beside / CLASSIFIER_RUN], find_shipped_checkpoints()
    if shipped and dataset in DATASETS:  # else it may be any path
        folders.insert(0, shipped / dataset / CLASSIFIER_RUN)
    return next((folder for folder in folders if _may_hold_classifier(folder)), None)


def _may_hold_classifier(folder: Path) -> bool:
    """Also of a run whose list of files cannot be read; whoever loads it is told so."""
    try:
        return holds_classifier(RunFolder(folder))
    except (CheckpointError, OSError):
        return True


def load_classifier(folder: Path, spec: DatasetSpec) -> FeatureNet:
    """Raises `CheckpointError` for a folder that holds none, or one that takes other images than a dataset's."""
    network = load_model(FeatureNet, folder, CLASSIFIER)
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
