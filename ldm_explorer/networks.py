"""The networks that can be a denoiser: what diffusers calls them, their labels, and what no file of theirs holds."""

from typing import Any

import torch
from diffusers import DiTTransformer2DModel, ModelMixin, UNet2DModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import nn

from ldm_explorer.run_layout import TRANSFORMER, UNET

NETWORKS: dict[str, type[ModelMixin]] = {UNET: UNet2DModel, TRANSFORMER: DiTTransformer2DModel}
"""The networks that can be a denoiser, by the part of a pipeline that diffusers calls them."""


CONDITIONING = ("time_embedding.", "class_embedding.", "time_emb_proj.", "norm1.emb.", "norm1.linear.", "proj_out_1.")
"""Parts of the names of weights that see one vector of an image, of its timestep and its class, not one at each of its
positions."""


def conditioning_weights(network: nn.Module) -> list[nn.Parameter]:
    """The weights of a denoiser that see one vector of an image; none of a network that is told no timestep."""
    return [weight for name, weight in network.named_parameters() if any(part in name for part in CONDITIONING)]


def part_of(network: nn.Module | None) -> str:
    """The part of a pipeline that a denoiser's network is."""
    return TRANSFORMER if isinstance(network, DiTTransformer2DModel) else UNET


def num_labels(part: str, embeddings: int | None) -> int:
    """The labels that a denoiser can be told, "no label" among them where it has one; 0 for one without labels.

    `embeddings` is what its config names: all of a UNet's, and of a transformer's those of classes, beside which it
    always has one for "no label". A transformer is told a label in any case: one that knows a single class has none.
    """
    if part != TRANSFORMER or not embeddings:
        return embeddings or 0
    return embeddings + 1 if embeddings > 1 else 0


def without_label_dropout(network: DiTTransformer2DModel) -> None:
    """Leave the dropping of labels to who trains it.

    Every block drops labels of its own in training, by torch's global generator, a tenth of them again after every
    load: resuming would not be exact.
    """
    for block in network.transformer_blocks:
        block.norm1.emb.class_embedder.dropout_prob = 0.0


def rebuilt(network: ModelMixin, **fields: Any) -> ModelMixin:
    """The same weights in a network with other settings. Raises what torch or diffusers does where they do not fit."""
    with torch.device("meta"):
        other = type(network).from_config(network.config, **fields)
    other.load_state_dict(network.state_dict(), assign=True)
    settle(other)
    return other.eval().requires_grad_(False)


def settle(network: nn.Module) -> None:
    """Give a transformer what no file holds: how it drops labels, and the waves by which it tells its patches apart."""
    if isinstance(network, DiTTransformer2DModel):
        without_label_dropout(network)
        side = network.config.sample_size // network.config.patch_size
        waves = get_2d_sincos_pos_embed(network.inner_dim, side, base_size=side, output_type="pt")
        network.pos_embed.pos_embed = waves.float()[None]
