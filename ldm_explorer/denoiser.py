"""Denoisers: whatever can be asked what a noisy latent holds, a trained network or anything that knows the latents.

Samplers, the pipeline, the diagnosis and the count of operations take any of them.
"""

import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from torch import Tensor, nn

from ldm_explorer.networks import num_labels, part_of
from ldm_explorer.prediction import PredictionType, to_z0
from ldm_explorer.schedules import Schedule


class Denoiser(nn.Module):
    """Predicts `prediction_type` along `schedule`, for latents of `latent_shape` (c, h, w), normalised.

    Class labels are `(B,)`, 0 to `num_classes` - 1; that is 0 where no labels are taken. `null_class` means "no label":
    it is `num_classes`, or None for a network that was never trained without labels. A subclass answers in
    `forward(z_t, timestep, class_labels)`, with None for no labels.
    """

    def __init__(
        self,
        prediction_type: PredictionType,
        schedule: Schedule,
        latent_shape: tuple[int, int, int],
        null_class: int | None,
        num_classes: int | None = None,
    ):
        super().__init__()
        self.prediction_type = prediction_type
        self.schedule = schedule
        self.latent_shape = latent_shape
        self.null_class = null_class
        self.num_classes = (null_class or 0) if num_classes is None else num_classes

    def labels_without_choice(self, count: int) -> Tensor | None:
        """Labels `(count,)` for when it does not matter which: None where that will do, else each class in turn."""
        needed = self.num_classes and self.null_class is None
        return torch.arange(count) % self.num_classes if needed else None

    @torch.no_grad()
    def predict(self, z_t: Tensor, timestep: float | Tensor, class_labels: Tensor | None = None) -> Tensor:
        """The prediction for `z_t (B, c, h, w)`, of the same shape; without labels, that of the null class."""
        return self(z_t, timestep, class_labels)

    def z0(self, z_t: Tensor, timestep: float | Tensor, class_labels: Tensor | None = None) -> Tensor:
        """The clean latents `(B, c, h, w)` that the prediction implies, with one timestep for all."""
        prediction = self.predict(z_t, timestep, class_labels)
        return to_z0(self.prediction_type, prediction, z_t, self.schedule.at(timestep))


class NetworkDenoiser(Denoiser):
    """A trained UNet2DModel or DiTTransformer2DModel.

    `num_classes` of a UNet's class embeddings are classes; one more is the null class. Without it all but the last are,
    as in what this project trains: nothing in a UNet says which it is. A transformer's config does.
    """

    def __init__(
        self,
        network: UNet2DModel | DiTTransformer2DModel,
        prediction_type: PredictionType,
        schedule: Schedule,
        num_classes: int | None = None,
    ):
        size, labels = network.config.sample_size, labels_of(network)
        height, width = size if isinstance(size, list | tuple) else (size, size)
        if num_classes is None or isinstance(network, DiTTransformer2DModel):
            num_classes = max(0, labels - 1)
        null_class = num_classes if num_classes < labels else None
        super().__init__(
            prediction_type, schedule, (network.config.in_channels, height, width), null_class, num_classes
        )
        self.network = network

    def forward(self, z_t: Tensor, timestep: float | Tensor, class_labels: Tensor | None = None) -> Tensor:
        """The network's output without a variance that it may have learned beside it.

        Raises `ValueError` without labels for a network that has classes and no null class.
        """
        if class_labels is None and self.null_class is not None:
            class_labels = torch.full((len(z_t),), self.null_class, device=z_t.device)
        if class_labels is None and self.num_classes:
            raise ValueError(f"this network knows {self.num_classes} classes and no null class: give class labels")
        if class_labels is None:
            class_labels = no_labels(self.network, z_t)
        labels = () if class_labels is None else (class_labels,)
        timestep = torch.as_tensor(timestep, device=z_t.device)  # a UNet rounds a number, and not a tensor
        if isinstance(self.network, DiTTransformer2DModel):  # it takes one for each latent alone
            timestep = timestep.expand(len(z_t))
        return self.network(z_t, timestep, *labels, return_dict=False)[0][:, : self.latent_shape[0]]


def labels_of(network: UNet2DModel | DiTTransformer2DModel) -> int:
    """The labels that a denoiser's network can be told, as `num_labels` counts them."""
    is_transformer = isinstance(network, DiTTransformer2DModel)
    embeddings = network.config.num_embeds_ada_norm if is_transformer else network.config.num_class_embeds
    return num_labels(part_of(network), embeddings)


def no_labels(network: nn.Module, z_t: Tensor) -> Tensor | None:
    """What a network without classes is told of them, for `z_t (B, ...)`: nothing, but a transformer always label 0."""
    if not isinstance(network, DiTTransformer2DModel):
        return None
    return torch.zeros(len(z_t), dtype=torch.long, device=z_t.device)


class StandIn(Denoiser):
    """Answers in the place of another denoiser, over the same latents and classes."""

    def __init__(self, other: Denoiser):
        super().__init__(other.prediction_type, other.schedule, other.latent_shape, other.null_class, other.num_classes)
