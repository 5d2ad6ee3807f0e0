"""Denoisers: whatever can be asked what a noisy latent holds, a trained network or anything that knows the latents.

Samplers, the pipeline, the diagnosis and the count of operations take any of them.
"""

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from ldm_explorer.prediction import PredictionType, to_z0
from ldm_explorer.schedules import Schedule


class Denoiser(nn.Module):
    """Predicts `prediction_type` along `schedule`, for latents of `latent_shape` (c, h, w), normalised.

    Class labels are `(B,)`, 0 to K - 1; K is `null_class`, "no label", which is None where no labels are taken. A
    subclass answers in `forward(z_t, timestep, class_labels)`, with None for no labels.
    """

    def __init__(
        self,
        prediction_type: PredictionType,
        schedule: Schedule,
        latent_shape: tuple[int, int, int],
        null_class: int | None,
    ):
        super().__init__()
        self.prediction_type = prediction_type
        self.schedule = schedule
        self.latent_shape = latent_shape
        self.null_class = null_class

    @torch.no_grad()
    def predict(self, z_t: Tensor, timestep: int | Tensor, class_labels: Tensor | None = None) -> Tensor:
        """The prediction for `z_t (B, c, h, w)`, of the same shape; without labels, that of the null class."""
        return self(z_t, timestep, class_labels)

    def z0(self, z_t: Tensor, timestep: int, class_labels: Tensor | None = None) -> Tensor:
        """The clean latents `(B, c, h, w)` that the prediction implies."""
        prediction = self.predict(z_t, timestep, class_labels)
        return to_z0(self.prediction_type, prediction, z_t, self.schedule.alpha_bars[timestep])


class NetworkDenoiser(Denoiser):
    """A trained UNet2DModel; its last class embedding, where it has any, is the null class."""

    def __init__(self, network: UNet2DModel, prediction_type: PredictionType, schedule: Schedule):
        size, embeddings = network.config.sample_size, network.config.num_class_embeds
        height, width = size if isinstance(size, list | tuple) else (size, size)
        null_class = None if embeddings is None else embeddings - 1
        super().__init__(prediction_type, schedule, (network.config.in_channels, height, width), null_class)
        self.network = network

    def forward(self, z_t: Tensor, timestep: int | Tensor, class_labels: Tensor | None = None) -> Tensor:
        """The network's output without a variance that it may have learned beside it."""
        if class_labels is None and self.null_class is not None:
            class_labels = torch.full((len(z_t),), self.null_class, device=z_t.device)
        labels = () if class_labels is None else (class_labels,)
        return self.network(z_t, timestep, *labels, return_dict=False)[0][:, : self.latent_shape[0]]


class StandIn(Denoiser):
    """Answers in the place of another denoiser, over the same latents and classes."""

    def __init__(self, other: Denoiser):
        super().__init__(other.prediction_type, other.schedule, other.latent_shape, other.null_class)
