"""The rooms of the page, one file each, in the order of their tabs."""

from ldm_explorer.ui.answers import Room
from ldm_explorer.ui.rooms import alphas_betas, denoising, diagnosis, latent_size, reconstruction

ROOMS: tuple[Room, ...] = (reconstruction, alphas_betas, denoising, latent_size, diagnosis)  # type: ignore[assignment]
