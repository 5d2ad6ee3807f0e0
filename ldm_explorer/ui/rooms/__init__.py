"""The rooms of the page, one file each, in the order of their tabs."""

from ldm_explorer.ui.answers import Room
from ldm_explorer.ui.rooms import (
    alphas_betas,
    denoising,
    diagnosis,
    faults,
    latent_size,
    reconstruction,
    training,
    velocity,
)

ROOMS: tuple[Room, ...] = (  # type: ignore[assignment]
    reconstruction,
    alphas_betas,
    velocity,
    denoising,
    training,
    latent_size,
    faults,
    diagnosis,
)
