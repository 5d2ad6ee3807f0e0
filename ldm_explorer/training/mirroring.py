"""Mirrored images, left and right exchanged, among those that are trained on."""

import torch
from torch import Tensor


def draw_mirrored(size: int, generator: torch.Generator) -> Tensor:
    """Which of a batch are mirrored, `(size,) bool`: half of them on average."""
    return torch.rand(size, generator=generator) < 0.5


def mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    """`(B, C, H, W)` with some of them mirrored, as `mirrored (B,) bool` says."""
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
