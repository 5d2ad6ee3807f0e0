"""The rooms of the page, one file each, in the order of their tabs."""

from ldm_explorer.ui.answers import Room
from ldm_explorer.ui.rooms import alphas_betas, denoising, reconstruction, training

ROOMS: tuple[Room, ...] = (reconstruction, alphas_betas, denoising, training)  # type: ignore[assignment]
