"""The loss of a training on the stage, between the floors that make it readable."""

from collections.abc import Mapping, Sequence

from ldm_explorer.figures.loss import FLOOR_LABELS
from ldm_explorer.figures.style import FLOOR_COLORS, FLOOR_DASHES, LOSS_COLOR, VALIDATION_COLOR
from ldm_explorer.ui.curve import Curve, Level, Line

Points = tuple[Sequence[float], Sequence[float]]


def loss_curve(
    training: Points,
    validation: Points,
    floors: Mapping[str, float],
    x_range: tuple[float, float],
    at: tuple[float, float],
    caption: str,
) -> Curve:
    """Training and validation loss over the images seen, and the mean floors by name; an autoencoder has none, and its
    loss falls over so many scales that its axis is logarithmic."""
    return Curve(
        [Line("training", *training, LOSS_COLOR), Line("validation", *validation, VALIDATION_COLOR, width=3)],
        [Level(FLOOR_LABELS[name], value, FLOOR_COLORS[name], FLOOR_DASHES[name]) for name, value in floors.items()],
        "images seen",
        x_range,
        at,
        "Loss and its floors" if floors else "Loss",
        caption,
        y_log=not floors,
    )


def floor_facts(floors: Mapping[str, float]) -> list[tuple[str, str]]:
    """Floors in words and numbers."""
    return [(FLOOR_LABELS[name], f"{value:.3f}") for name, value in floors.items()]
