"""The checkpoints that the app shows, by name."""

from dataclasses import dataclass
from pathlib import Path

from ldm_explorer.checkpoints import Checkpoint, CheckpointError, Skipped, discover, load_model
from ldm_explorer.evaluation.features import FeatureNet

SHIPPED_CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"


@dataclass(frozen=True)
class Library:
    """Checkpoints by a unique name, what was passed over, and the classifier of each dataset."""

    checkpoints: dict[str, Checkpoint]
    skipped: tuple[Skipped, ...]
    classifiers: dict[str, FeatureNet]

    def names(self, kind: str | None = None) -> list[str]:
        """Names of all checkpoints, or of one kind ("vae", "ldm")."""
        return [name for name, checkpoint in self.checkpoints.items() if kind in (None, checkpoint.kind)]

    def get(self, name: str) -> Checkpoint:
        """Raises `ValueError` for a name that is not there."""
        if name not in self.checkpoints:
            raise ValueError(f"no checkpoint {name!r}: choose one of {', '.join(self.checkpoints) or 'none'}")
        return self.checkpoints[name]


def open_library(*roots: Path) -> Library:
    """Look through folders for checkpoints; what is empty, broken or half-written is skipped with its reason.

    Weights are loaded here once, so that a broken file is found now and not in front of an audience.
    """
    checkpoints: dict[str, Checkpoint] = {}
    skipped: list[Skipped] = []
    classifiers: dict[str, FeatureNet] = {}
    for root in roots:
        try:
            found, passed_over = discover(root)
        except CheckpointError as error:
            skipped.append(Skipped(root, str(error)))
            continue
        skipped += passed_over
        for checkpoint in found:
            try:
                _ = checkpoint.vae
                checkpoints[_unique(checkpoint.name, checkpoints)] = checkpoint
            except (CheckpointError, ValueError) as error:
                skipped.append(Skipped(checkpoint.folder, str(error)))
    for dataset in {checkpoint.dataset for checkpoint in checkpoints.values()}:
        for root in roots:
            if (root / dataset / "features" / "features").is_dir():
                classifiers[dataset] = load_model(FeatureNet, root / dataset / "features", "features")
    return Library(checkpoints, tuple(skipped), classifiers)


def _unique(name: str, taken: dict[str, Checkpoint]) -> str:
    number = 2
    unique = name
    while unique in taken:
        unique, number = f"{name} ({number})", number + 1
    return unique
