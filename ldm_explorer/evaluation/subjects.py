"""What can be measured: checkpoints, and folders of pictures that any model made."""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.claims import locked
from ldm_explorer.data import DatasetSpec, find_dataset
from ldm_explorer.evaluation.config import EvaluationConfig, few_evaluations
from ldm_explorer.files import unique_name
from ldm_explorer.image_folder import holds_pictures, read_samples
from ldm_explorer.run_files import read_scheduler_config
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import VAE, holds_classifier, holds_run
from ldm_explorer.samplers import make_sampler, takes_evaluations
from ldm_explorer.sources import open_source
from ldm_explorer.stored_scheduler import load_scheduler


@dataclass(frozen=True, eq=False)
class SampleFolder:
    """Pictures of whatever model made them, to be measured against a dataset."""

    folder: Path
    dataset: str
    spec: DatasetSpec
    images: Tensor  # (N, C, side, side) uint8
    labels: Tensor | None  # (N,)
    summary: str = ""  # what there is and what is left out, in one line

    @property
    def name(self) -> str:
        return self.folder.name

    @classmethod
    def read(cls, folder: Path, dataset: str, image_side: int | None) -> "SampleFolder":
        """Raises `DataError` for what is no picture of the dataset's size, `ValueError` as `labels_of` does."""
        spec = find_dataset(dataset, image_side).spec
        images, names, summary = read_samples(folder, spec.side, spec.channels)
        return cls(folder, dataset, spec, images, labels_of(folder, names, spec), summary)


Subject = Checkpoint | SampleFolder


def is_samples(folder: Path) -> bool:
    """Whether a folder holds pictures, in it or in its subfolders, and is no run nor a folder of runs."""
    places = [folder, *(child for child in folder.iterdir() if child.is_dir())] if folder.is_dir() else []
    return not any(holds_run(RunFolder(place)) for place in places) and any(map(holds_pictures, places))


def labels_of(folder: Path, names: list[str], spec: DatasetSpec) -> Tensor | None:
    """`(N,)` by the subfolders of samples, None where none is a class. Raises `ValueError` where only some are."""
    others = sorted({name or "no subfolder" for name in names} - set(spec.class_names))
    if not others:
        return torch.tensor([spec.label_of(name) for name in names])
    if set(names) & set(spec.class_names):
        raise ValueError(
            f"{folder} holds samples of classes and others ({', '.join(others)}): give every sample a subfolder named "
            f"as its class ({', '.join(spec.class_names)}), or none"
        )
    return None


def read_subjects(folders: Iterable[Path], config: EvaluationConfig) -> dict[str, Subject]:
    """The checkpoints and the folders of samples to measure, by a unique name; classifiers and files are left out.

    Raises `ValueError` or `DataError` for what cannot be measured as asked, before any work is done.
    """
    found: dict[str, Subject] = {}
    for folder in folders:
        run = RunFolder(folder)
        is_classifier = holds_classifier(run) and not run.has_part(VAE)
        if is_classifier or folder.is_file():
            continue
        subject: Subject
        if is_samples(folder):
            subject = SampleFolder.read(folder, config.dataset, config.image_side)
        else:
            subject = open_source(folder)
            if subject.known_spec is None:
                subject = open_source(folder, dataset=config.dataset)
            if run.is_marked and not os.access(folder, os.W_OK):
                raise ValueError(f"{folder} cannot be written to, and measures are kept there: copy it elsewhere first")
        if isinstance(subject, Checkpoint) and subject.has_denoiser:
            if config.few_evaluations:
                samplers, counts = few_evaluations(subject, config.sampler)
                _check_sampler(samplers[0], subject)
            else:
                sampler, steps = config.sampling(subject.sampling)
                counts = (steps,)
                _check_sampler(sampler, subject, steps)
            _check_steps(max(counts), subject.folder)
        elif config.few_evaluations:
            raise ValueError(f"{folder} has no denoiser: leave it out of --few-evaluations")
        found[unique_name(subject.name, found)] = subject
    if not found:
        raise ValueError("there is no checkpoint among these folders: give run folders, as in checkpoints/*/*")
    return found


def _check_sampler(sampler: str, checkpoint: Checkpoint, steps: int | None = None) -> None:
    """Raise `ValueError` for one that does not walk along its schedule, or not in so many evaluations."""
    if read_scheduler_config(checkpoint.folder):
        make_sampler(sampler, load_scheduler(checkpoint.folder))
    if steps is not None and not takes_evaluations(sampler, steps):
        raise ValueError(
            f"{sampler} takes an odd number of evaluations: give --steps {steps + 1}, or another --sampler"
        )


def _check_steps(steps: int, folder: Path) -> None:
    """Raise `ValueError` where a schedule is shorter."""
    num_timesteps = read_scheduler_config(folder).get("num_train_timesteps", steps)
    if steps > num_timesteps:
        raise ValueError(f"{folder} has {num_timesteps} timesteps: {steps} evaluations are too many for it")


def kept_nowhere(subjects: Iterable[Subject]) -> list[Path]:
    """The folders of checkpoints that are no runs of ours, in which nothing is written."""
    return [folder for folder in _folders(subjects) if not RunFolder(folder).is_marked]


@contextmanager
def locked_runs(subjects: Iterable[Subject]) -> Iterator[None]:
    """Be the one who writes in the run folders. Raises `FolderRefused` as `locked` does."""
    with ExitStack() as locks:
        for folder in _folders(subjects):
            if RunFolder(folder).is_marked:
                locks.enter_context(locked(RunFolder(folder)))
        yield


def _folders(subjects: Iterable[Subject]) -> list[Path]:
    """Those of checkpoints, each once."""
    folders = {subject.folder.resolve(): subject.folder for subject in subjects if isinstance(subject, Checkpoint)}
    return list(folders.values())
