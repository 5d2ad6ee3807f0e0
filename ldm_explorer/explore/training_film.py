"""How do the images get better while the network learns?"""

from dataclasses import dataclass

from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
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
    spec = checkpoint.spec
    film = read_film(checkpoint.folder, spec.channels)
    conditional = spec.num_classes > 0 and checkpoint.config.get("class_labels", True)
    return tuple(
        Milestone(
            frame.step,
            film[-1].step,
            frame.images,
            tuple(
                spec.class_names[index % spec.num_classes] if conditional else f"Sample {index + 1}"
                for index in range(len(frame.images))
            ),
        )
        for frame in film
    )
