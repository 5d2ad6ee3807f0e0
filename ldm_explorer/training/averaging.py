"""The average of a network's weights, which is what a training validates, films and exports."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

EMA_RAMPUP_RATIO = 0.05


class WeightAverage(AveragedModel):
    """An exponential average over steps, with its half-life in images: at most 5 % of the images seen before (Karras et
    al. 2022, EDM).

    The count of steps lies on the CPU, where the parent would read it from a GPU and wait for that.
    """

    def __init__(self, model: nn.Module, halflife_images: int, images_per_step: int):
        super().__init__(model)
        self.halflife_images, self.images_per_step = halflife_images, images_per_step
        self.requires_grad_(False)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the weights of one more step; the first are taken as they are."""
        halflife = min(self.halflife_images, EMA_RAMPUP_RATIO * int(self.n_averaged) * self.images_per_step)
        weight = 1 - 0.5 ** (self.images_per_step / max(halflife, 1e-8))
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), weight)
        for averaged, current in zip(self.module.buffers(), model.buffers(), strict=True):
            averaged.copy_(current)
        self.n_averaged += 1
