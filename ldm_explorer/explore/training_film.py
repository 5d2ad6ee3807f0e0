"""How do the images get better while the network learns?"""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import DatasetSpec
from ldm_explorer.film import read_film


@dataclass(frozen=True)
class Milestone:
    """What the network generated at one moment of its training: `(B, C, side, side) uint8`, always from one noise."""

    step: int
    total_steps: int
    images: Tensor
    titles: tuple[str, ...]  # per image


def training_film(checkpoint: Checkpoint) -> tuple[Milestone, ...]:
    """The milestones that a run kept, in order; none for a run without a film. Raises `ValueError` for a broken one."""
    return read_milestones(checkpoint.folder, checkpoint.spec, bool(checkpoint.config.get("class_labels", True)))


def read_milestones(folder: Path, spec: DatasetSpec | None, class_labels: bool) -> tuple[Milestone, ...]:
    """The milestones in a run folder; where nothing is known of its images, in colour and without classes."""
    film = read_film(folder, spec.channels if spec else 3)
    names = spec.class_names if spec and class_labels else ()

    def title(index: int) -> str:
        return names[index % len(names)] if names else f"Sample {index + 1}"

    return tuple(
        Milestone(frame.step, film[-1].step, frame.images, tuple(title(index) for index in range(len(frame.images))))
        for frame in film
    )
