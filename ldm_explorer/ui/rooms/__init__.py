"""The rooms of the page, one file each, in the order of their tabs."""

from ldm_explorer.ui.answers import Room
from ldm_explorer.ui.rooms import alphas_betas, denoising, faults, reconstruction, velocity

ROOMS: tuple[Room, ...] = (reconstruction, alphas_betas, velocity, denoising, faults)  # type: ignore[assignment]
