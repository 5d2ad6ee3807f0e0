"""What to try, by what a loss shows."""

from ldm_explorer.diagnosis.judge import MAX_LOSS_OVER_WHITE, MeanFloors, Rung
from ldm_explorer.diagnosis.latent_facts import LatentFacts
from ldm_explorer.diagnosis.plateau import Plateau

NEAR = 0.05
"""Of a floor: a loss that is so close stands at it."""
UNSCALED = 1.25
"""A std beyond this, or below one over it, is not scaled to 1."""

FELL_APART = (
    "a lower learning rate, with warm-up, and gradients clipped to 1",
    "full precision in place of fp16: it overflows",
    "look at the first step whose loss is larger than those before it",
)
ROSE = ("the weights from before it rose", "a lower learning rate in its later part", "fewer epochs, or more data")
TARGET = (
    "that the target is the noise that was added to this very batch, and not drawn again",
    "that gradients reach the network: print the norm of its weights before and after a step",
    "that the network is given the noisy latents, and not the clean ones or pure noise",
)
SCALED = "the latents scaled to a std of 1, by mean and std or by the autoencoder's scaling_factor: theirs is far off"
SCALE_ALONE = (
    "a batch of 16 alone for 1,000 steps: a network that learns at all goes well below the white floor there",
    "ten times the learning rate, or a tenth",
)
NOTHING_MORE = ("the autoencoder: these latents are nearly white, a lower KL weight leaves more structure in them",)
PART = (
    "that the network is told the timestep, as a number from 0 to T - 1",
    "a larger learning rate or network, if the loss is level; more steps, if it falls",
    "that labels, if it is told any, are those of the images",
)
MEASURE = ("what the snippet prints of the latents, in place of a std: it tells the mean image from the rest",)
FALLS = ("more steps: it still falls",)
COVARIANCE = (
    "more steps, or a larger network, if samples look like blurred means: it knows means and covariances alone so far",
)
MORE = ("samples, if these look wrong: the loss is fine, so look at the sampler, the scaling of latents, the decoder",)


def advice(
    rung: Rung | None,
    plateau: Plateau | None,
    floors: MeanFloors | None,
    latents: LatentFacts | None = None,
    other_std: float | None = None,
) -> tuple[str, ...]:
    """The most likely first. `other_std` has the loss for its white floor, where that is another than the latents'."""
    if rung is Rung.NOTHING or plateau is None:
        return FELL_APART
    if plateau.rose_again:
        return ROSE
    falls = FALLS if plateau.still_falling else ()
    if rung is None:
        return falls + MEASURE
    if rung is Rung.SCALE and floors is not None:
        if near_zero(plateau, floors):
            return falls + TARGET
        return falls + (NOTHING_MORE if is_white(floors) else _scale(plateau, latents, other_std) + SCALE_ALONE)
    if rung is Rung.PART_OF_COVARIANCE:
        return falls + PART
    return falls + (COVARIANCE if rung is Rung.COVARIANCE else MORE)


def _scale(plateau: Plateau, latents: LatentFacts | None, other_std: float | None) -> tuple[str, ...]:
    asked = f"the std of what the network sees, printed in the training loop: {plateau.value:.3g} is the white floor"
    first = () if other_std is None else (f"{asked} of std {other_std:.2f}",)
    std = latents.std_of_all if latents else 1.0
    return first if 1 / UNSCALED < std < UNSCALED else (*first, SCALED)


def near_zero(plateau: Plateau, floors: MeanFloors) -> bool:
    """Whether a loss stands at the zero floor, where that is not the white one as well."""
    return plateau.value > (1 - NEAR) * floors.zero and floors.white < (1 - NEAR) * floors.zero


def is_white(floors: MeanFloors) -> bool:
    """Whether the covariance of the latents holds no more than their scale."""
    return floors.gaussian is not None and floors.gaussian > MAX_LOSS_OVER_WHITE * floors.white
