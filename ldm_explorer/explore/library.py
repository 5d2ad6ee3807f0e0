"""The checkpoints that the app shows, by name."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import DATASETS
from ldm_explorer.discovery import Skipped, discover, passed_over
from ldm_explorer.evaluation.classifier import classifier_folder, load_classifier
from ldm_explorer.evaluation.features import FeatureNet
from ldm_explorer.explore.images import example_images
from ldm_explorer.explore.opened import NOTHING, MayOpen, Opened
from ldm_explorer.explore.training_film import training_film
from ldm_explorer.files import CheckpointError, counted, unique_name


class Classifiers(Mapping[str, FeatureNet]):
    """The classifier of each dataset that has one, loaded when it is first asked for.

    Raises `ValueError` for one that cannot be read or knows fewer classes than the images.
    """

    def __init__(self) -> None:
        self.folders: dict[str, tuple[Path, Checkpoint]] = {}
        self._loaded: dict[str, FeatureNet] = {}

    def add(self, checkpoint: Checkpoint, passed_over: set[Path]) -> Path | None:
        """Find the classifier of a checkpoint's images; its folder where it was not known."""
        folder = classifier_folder(checkpoint.dataset, checkpoint.folder.parent)
        if folder is None or checkpoint.dataset in self.folders or folder in passed_over:
            return None
        self.folders[checkpoint.dataset] = (folder, checkpoint)
        return folder

    def __getitem__(self, dataset: str) -> FeatureNet:
        if dataset not in self._loaded:
            folder, checkpoint = self.folders[dataset]
            self._loaded[dataset] = _fitting(load_classifier(folder, checkpoint.spec), folder, checkpoint)
        return self._loaded[dataset]

    def __iter__(self) -> Iterator[str]:
        return iter(self.folders)

    def __len__(self) -> int:
        return len(self.folders)


@dataclass(frozen=True, eq=False)
class Library:
    """Checkpoints by a unique name, what was passed over, and the classifier of each dataset, below `roots`."""

    checkpoints: dict[str, Checkpoint]
    skipped: tuple[Skipped, ...]
    classifiers: Mapping[str, FeatureNet]
    roots: tuple[Path, ...] = ()
    max_gflops: float = math.inf
    """Floating-point operations of networks, in 1e9, that one walk from noise may cost."""
    may_open: MayOpen = NOTHING
    opened: Opened = field(default_factory=Opened)
    """What was opened since, which is in no list: who may not see it does not read of it."""

    def names(self, kind: str | None = None) -> list[str]:
        """Names of all checkpoints, or of one kind ("vae", "ldm", "pixel")."""
        return [name for name, checkpoint in self.checkpoints.items() if kind in (None, checkpoint.kind)]

    def with_denoiser(self) -> list[str]:
        """Names of the checkpoints that can generate."""
        return [name for name, checkpoint in self.checkpoints.items() if checkpoint.has_denoiser]

    def of_same_images(self, name: str) -> list[str]:
        """The checkpoints that were trained on the same images as one of them, itself included."""
        chosen = self.get(name)
        names = [other.name for other in self.checkpoints.values() if _same_images(chosen, other)]
        return names if chosen.name in names else [*names, chosen.name]

    def beside(self, name: str) -> list[str]:
        """Those of the same images, and those that an opened model may be compared with, itself last."""
        same = self.of_same_images(name)
        if self.is_listed(name):
            return same
        return [other for other in self.checkpoints if other in same or self.may_be_comparable(name, other)] + same[-1:]

    def is_listed(self, name: str) -> bool:
        """Whether it is one of the library's own, and was not opened."""
        return self.get(name).name in self.checkpoints

    def comparable(self, name: str, other: str) -> bool:
        """Whether two checkpoints were trained on the same images."""
        return _same_images(self.get(name), self.get(other))

    def may_be_comparable(self, name: str, other: str) -> bool:
        """Whether two, of which one is of images that are not known, take images of the same shape."""
        pair = [self.get(name), self.get(other)]
        unknown = any(not item.model.is_ours and item.dataset not in DATASETS for item in pair)
        return unknown and len({(item.spec.channels, item.spec.model_side) for item in pair}) == 1

    def get(self, name: str) -> Checkpoint:
        """By name, one that was opened also by what it was asked for by. Raises `ValueError` where it is not there."""
        found = self.checkpoints.get(name) or self.opened.get(name)
        if found is None:
            raise ValueError(f"no checkpoint {name!r}: choose one of {', '.join(self.checkpoints) or 'none'}")
        return found


def _same_images(one: Checkpoint, other: Checkpoint) -> bool:
    return (one.dataset, one.spec) == (other.dataset, other.spec)


def open_library(*roots: Path, tested: Path | None = None) -> Library:
    """Look through folders for checkpoints; what is empty, broken or half-written is skipped with its reason.

    Weights are loaded here once, so that a broken file is found now and not in front of an audience; but for those of
    the root `tested`, which the project ships and tests: they are loaded when they are first used. Whatever a reader
    raises costs the folder that it read, and no other.
    """
    checkpoints: dict[str, Checkpoint] = {}
    skipped: list[Skipped] = []
    classifiers = Classifiers()
    for root in roots:
        try:
            found, passed = discover(root)
        except Exception as error:
            skipped.append(passed_over(root, error))
            continue
        skipped += passed
        for checkpoint in found:
            name = unique_name(checkpoint.name, checkpoints)
            try:
                named = replace(checkpoint, name=name)
                checkpoints[name] = named if root == tested else _checked(named)
            except Exception as error:
                skipped.append(passed_over(checkpoint.folder, error, checkpoint.folder.name))
    for checkpoint in checkpoints.values():
        folder = classifiers.add(checkpoint, {skip.folder for skip in skipped})
        if folder and tested not in folder.parents:
            skipped += _broken_classifier(classifiers, checkpoint.dataset, folder)
    return Library(checkpoints, tuple(skipped), classifiers, roots)


def _broken_classifier(classifiers: Classifiers, dataset: str, folder: Path) -> list[Skipped]:
    """Load a classifier now; one that cannot be read is left out."""
    try:
        classifiers[dataset]
    except Exception as error:
        del classifiers.folders[dataset]
        return [passed_over(folder, error)]
    return []


def _fitting(network: FeatureNet, folder: Path, checkpoint: Checkpoint) -> FeatureNet:
    """The same network. Raises `CheckpointError` for one that has fewer classes than the images."""
    if network.config.num_classes < checkpoint.spec.num_classes:
        raise CheckpointError(
            f"the classifier in {folder} knows {network.config.num_classes} classes, these images have "
            f"{checkpoint.spec.num_classes}"
        )
    return network


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    """Load what the app needs of a checkpoint; raises `ValueError` when it is broken or does not fit together."""
    spec, _ = checkpoint.spec, checkpoint.codec
    if checkpoint.model.is_ours and checkpoint.known_spec is not None:
        example_images(checkpoint)
        training_film(checkpoint)
    if (shape := checkpoint.model.image_shape) != (spec.channels, spec.model_side):
        raise ValueError(
            f"its networks take {counted(shape[0], 'channel')} of side {shape[1]}, {checkpoint.dataset} has "
            f"{spec.channels} of side {spec.model_side}"
        )
    return checkpoint
