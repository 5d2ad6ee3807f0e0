"""The networks, each a small config that builds a stock diffusers model."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log2

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ldm_explorer.network_configs import MAX_DEPTH, MAX_HEADS, MAX_LAYERS_PER_BLOCK, MAX_LEVELS, MAX_WIDTH
from ldm_explorer.network_files import MAX_VALUES, num_values
from ldm_explorer.networks import without_label_dropout

NORM_NUM_GROUPS = 16
ATTENTION_HEAD_DIM = 32


def _check_widths(widths: tuple[int, ...]) -> None:
    if not widths or any(width <= 0 or width % NORM_NUM_GROUPS for width in widths):
        raise ValueError(f"widths {widths}: give multiples of {NORM_NUM_GROUPS}, the groups of the normalisation")
    if max(widths) > MAX_WIDTH:
        raise ValueError(f"widths {widths}: give at most {MAX_WIDTH} channels")


def _check_layers(layers_per_block: int) -> None:
    if not 1 <= layers_per_block <= MAX_LAYERS_PER_BLOCK:
        raise ValueError(f"layers per block are {layers_per_block}: give 1 to {MAX_LAYERS_PER_BLOCK}")


@dataclass(frozen=True)
class VAEConfig:
    """An AutoencoderKL from `(B, image_channels, image_side, image_side)` to `(B, latent_channels, latent_size, ...)`.

    `widths` are the channels per resolution, finest first; the last one repeats when the latent grid is coarser than
    there are widths.
    """

    latent_size: int = 8
    latent_channels: int = 4
    image_side: int = 32
    image_channels: int = 1
    widths: tuple[int, ...] = (32, 64, 128)
    layers_per_block: int = 1

    def __post_init__(self) -> None:
        halvings = log2(self.image_side / self.latent_size) if self.latent_size > 0 else -1
        if halvings < 0 or halvings != int(halvings):
            raise ValueError(
                f"latent size {self.latent_size} cannot be reached by halving a side of {self.image_side}: "
                f"choose {', '.join(str(self.image_side >> k) for k in range(4))}"
            )
        if halvings >= MAX_LEVELS:
            raise ValueError(
                f"latent size {self.latent_size} is {int(halvings)} times half of a side of {self.image_side}: give "
                f"{self.image_side >> (MAX_LEVELS - 1)} or more"
            )
        if not 1 <= self.latent_channels <= MAX_WIDTH:
            raise ValueError(f"latent channels are {self.latent_channels}: give 1 to {MAX_WIDTH}")
        _check_layers(self.layers_per_block)
        _check_widths(self.widths)

    @property
    def block_out_channels(self) -> tuple[int, ...]:
        levels = int(log2(self.image_side // self.latent_size)) + 1
        return tuple(self.widths[min(level, len(self.widths) - 1)] for level in range(levels))

    def build(self) -> AutoencoderKL:
        levels = len(self.block_out_channels)
        return AutoencoderKL(
            in_channels=self.image_channels,
            out_channels=self.image_channels,
            sample_size=self.image_side,
            latent_channels=self.latent_channels,
            block_out_channels=self.block_out_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=self.layers_per_block,
            norm_num_groups=NORM_NUM_GROUPS,
            mid_block_add_attention=False,
            scaling_factor=1.0,
        )


@dataclass(frozen=True)
class UNetConfig:
    """A UNet2DModel over `(B, latent_channels, latent_size, latent_size)` with optional class labels.

    Attention acts at every grid of side up to `attention_max_side`. With labels, `num_classes` counts the real
    classes; one more embedding is added for the null class.
    """

    latent_size: int
    latent_channels: int
    num_classes: int
    widths: tuple[int, ...] = (128, 128)
    layers_per_block: int = 2
    attention_max_side: int = 4

    def __post_init__(self) -> None:
        _check_widths(self.widths)
        coarsest = self.latent_size / 2 ** (len(self.widths) - 1)
        if coarsest != int(coarsest) or coarsest < 1:
            raise ValueError(
                f"{len(self.widths)} widths halve a latent of side {self.latent_size} too often: give fewer widths"
            )
        if len(self.widths) > MAX_LEVELS:
            raise ValueError(f"{len(self.widths)} widths: give at most {MAX_LEVELS}")
        _check_layers(self.layers_per_block)
        if self.attention_max_side < 0:
            raise ValueError(
                f"attention_max_side is {self.attention_max_side}: give a side, or 0 for none but in the middle"
            )
        attending = [w for level, w in enumerate(self.widths) if self.latent_size >> level <= self.attention_max_side]
        if bad := [width for width in (*attending, self.widths[-1]) if width < ATTENTION_HEAD_DIM]:
            raise ValueError(f"widths {bad} attend, with heads of {ATTENTION_HEAD_DIM}: make them at least that wide")

    def build(self) -> UNet2DModel:
        attends = [self.latent_size >> level <= self.attention_max_side for level in range(len(self.widths))]
        return UNet2DModel(
            sample_size=self.latent_size,
            in_channels=self.latent_channels,
            out_channels=self.latent_channels,
            block_out_channels=self.widths,
            down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
            up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
            layers_per_block=self.layers_per_block,
            attention_head_dim=ATTENTION_HEAD_DIM,
            norm_num_groups=NORM_NUM_GROUPS,
            attn_norm_num_groups=NORM_NUM_GROUPS,  # with scale_shift diffusers leaves it out of the middle block
            resnet_time_scale_shift="scale_shift",
            num_class_embeds=self.num_classes + 1 if self.num_classes else None,
        )


@dataclass(frozen=True)
class TransformerConfig:
    """A DiTTransformer2DModel over `(B, latent_channels, latent_size, latent_size)` (Peebles & Xie 2023).

    `depth` blocks of `width` channels for each patch of `patch_size` by `patch_size` values. It is always told a label:
    one of `num_classes`, or their number, which is the null class; without classes that is always 0.
    """

    latent_size: int
    latent_channels: int
    num_classes: int
    width: int = 96
    depth: int = 4
    patch_size: int = 1

    def __post_init__(self) -> None:
        widest = MAX_HEADS * ATTENTION_HEAD_DIM
        if not 0 < self.width <= widest or self.width % ATTENTION_HEAD_DIM:
            raise ValueError(
                f"width {self.width}: give a multiple of {ATTENTION_HEAD_DIM}, the channels of a head, up to {widest}"
            )
        if not 1 <= self.depth <= MAX_DEPTH:
            raise ValueError(f"depth {self.depth}: give 1 to {MAX_DEPTH} blocks")
        sides = [side for side in range(1, self.latent_size + 1) if self.latent_size % side == 0]
        if self.patch_size not in sides:
            raise ValueError(
                f"patches of side {self.patch_size} do not divide a latent of side {self.latent_size}: give "
                f"{', '.join(map(str, sides))}"
            )

    def build(self) -> DiTTransformer2DModel:
        network = DiTTransformer2DModel(
            sample_size=self.latent_size,
            in_channels=self.latent_channels,
            patch_size=self.patch_size,
            num_attention_heads=self.width // ATTENTION_HEAD_DIM,
            attention_head_dim=ATTENTION_HEAD_DIM,
            num_layers=self.depth,
            num_embeds_ada_norm=self.num_classes or 1,
        )
        without_label_dropout(network)
        for linear in (*(block.norm1.linear for block in network.transformer_blocks), network.proj_out_2):
            nn.init.zeros_(linear.weight)  # every block begins as the identity (section 3.2, adaLN-Zero)
            nn.init.zeros_(linear.bias)
        return network


def check_size(config: VAEConfig | UNetConfig | TransformerConfig) -> None:
    """Raises `ValueError` for a network that is too large to be read again; no memory is taken for it."""
    with torch.device("meta"):
        values = num_values(config.build())
    if values > MAX_VALUES:
        raise ValueError(
            f"such a network has {values:,} values, and one of at most {MAX_VALUES:,} is read again: give fewer or "
            "narrower layers"
        )


def count_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions, attention's among them, of calling `run`."""
    # attention as plain matrix products: torch counts nothing for the fused kernel of a CPU
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
