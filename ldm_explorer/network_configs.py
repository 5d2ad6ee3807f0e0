"""The fields of networks' config.json that are read, each with the values that it may have."""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from ldm_explorer.run_files import STRICT, Finite, Name, Positive, Timesteps

MAX_WIDTH, MAX_LEVELS, MAX_LAYERS_PER_BLOCK = 8192, 8, 16
MAX_HEADS, MAX_DEPTH = 128, 64
"""What a training makes is to be read again, so its options have the same bounds."""

Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
Side = Annotated[int, Field(ge=1, le=1024)]
Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS_PER_BLOCK)]
Widths = Annotated[list[Width], Field(min_length=1, max_length=MAX_LEVELS, fail_fast=True)]
Names = Annotated[list[Name], Field(min_length=1, max_length=MAX_LEVELS, fail_fast=True)]


@with_config(STRICT)
class AutoencoderKLConfig(TypedDict, total=False):
    """config.json of diffusers' AutoencoderKL."""

    in_channels: Width
    out_channels: Width
    down_block_types: Names
    up_block_types: Names
    block_out_channels: Widths
    layers_per_block: Layers
    act_fn: Name
    latent_channels: Width
    norm_num_groups: Width
    sample_size: Side
    scaling_factor: Positive | None
    shift_factor: Finite | None
    latents_mean: Annotated[list[Finite], Field(max_length=8192, fail_fast=True)] | None
    latents_std: Annotated[list[Positive], Field(max_length=8192, fail_fast=True)] | None
    force_upcast: bool
    use_quant_conv: bool
    use_post_quant_conv: bool
    mid_block_add_attention: bool


@with_config(STRICT)
class UNet2DModelConfig(TypedDict, total=False):
    """config.json of diffusers' UNet2DModel."""

    sample_size: Side | Annotated[list[Side], Field(min_length=2, max_length=2)] | None
    in_channels: Width
    out_channels: Width
    center_input_sample: bool
    time_embedding_type: Name
    time_embedding_dim: Width | None
    freq_shift: Annotated[int, Field(ge=0, le=1)]
    flip_sin_to_cos: bool
    down_block_types: Names
    mid_block_type: Name | None
    up_block_types: Names
    block_out_channels: Widths
    layers_per_block: Layers
    mid_block_scale_factor: Positive
    downsample_padding: Annotated[int, Field(ge=0, le=1)]
    downsample_type: Name
    upsample_type: Name
    dropout: Annotated[float, Field(ge=0, le=1)]
    act_fn: Name
    attention_head_dim: Width | None
    norm_num_groups: Width
    attn_norm_num_groups: Width | None
    norm_eps: Annotated[float, Field(gt=0, le=1)]
    resnet_time_scale_shift: Literal["default", "scale_shift"]
    add_attention: bool
    class_embed_type: Name | None
    num_class_embeds: Annotated[int, Field(ge=1, le=100_000)] | None
    num_train_timesteps: Timesteps | None


@with_config(STRICT)
class DiTTransformer2DModelConfig(TypedDict, total=False):
    """config.json of diffusers' DiTTransformer2DModel."""

    num_attention_heads: Annotated[int, Field(ge=1, le=MAX_HEADS)]
    attention_head_dim: Width
    in_channels: Width
    out_channels: Width | None
    num_layers: Annotated[int, Field(ge=1, le=MAX_DEPTH)]
    dropout: Annotated[float, Field(ge=0, le=1)]
    norm_num_groups: Width
    attention_bias: bool
    sample_size: Side
    patch_size: Side
    activation_fn: Literal["gelu", "gelu-approximate", "geglu", "geglu-approximate", "swiglu", "linear-silu"]
    num_embeds_ada_norm: Annotated[int, Field(ge=1, le=100_000)] | None
    upcast_attention: bool
    norm_type: Name
    norm_elementwise_affine: bool
    norm_eps: Annotated[float, Field(gt=0, le=1)]


@with_config(STRICT)
class FeatureNetConfig(TypedDict, total=False):
    """config.json of the classifiers that train/features.py trains."""

    channels: Width
    num_classes: Annotated[int, Field(ge=1, le=100_000)]
    widths: Widths
    side: Side
    patch: Side
    num_heads: Annotated[int, Field(ge=1, le=64)]


CONFIGS: dict[str, TypeAdapter[Any]] = {
    "AutoencoderKL": TypeAdapter(AutoencoderKLConfig),
    "UNet2DModel": TypeAdapter(UNet2DModelConfig),
    "DiTTransformer2DModel": TypeAdapter(DiTTransformer2DModelConfig),
    **dict.fromkeys(("FeatureNet", "PlainNet", "TokenNet"), TypeAdapter(FeatureNetConfig)),
}
"""By the class of the network."""
