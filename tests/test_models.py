import pytest
import torch
from diffusers.models.attention_processor import Attention
from helpers import build_seeded

from ldm_explorer.models import TransformerConfig, UNetConfig, VAEConfig, check_size, count_flops
from ldm_explorer.network_configs import CONFIGS


@pytest.mark.parametrize("latent_size", [4, 8, 16, 32])
def test_the_autoencoder_makes_latents_of_the_size_asked_for(latent_size):
    vae = build_seeded(VAEConfig(latent_size=latent_size, latent_channels=3, widths=(16, 32)))
    images = torch.randn(2, 1, 32, 32)
    latents = vae.encode(images).latent_dist.mean
    assert latents.shape == (2, 3, latent_size, latent_size)
    assert vae.decode(latents).sample.shape == images.shape


def test_the_last_width_repeats_on_coarser_grids():
    assert VAEConfig(latent_size=4, widths=(16, 32)).block_out_channels == (16, 32, 32, 32)
    assert VAEConfig(latent_size=32, widths=(16, 32)).block_out_channels == (16,)


def test_the_autoencoder_carries_no_scaling_of_its_own():
    config = VAEConfig(widths=(16,)).build().config
    assert config.scaling_factor == 1
    assert config.shift_factor in (None, 0)


@pytest.mark.parametrize("latent_size", [-8, 0, 5, 12, 64])
def test_a_latent_size_that_halving_does_not_reach_is_refused(latent_size):
    with pytest.raises(ValueError, match="32, 16, 8, 4"):
        VAEConfig(latent_size=latent_size)


def test_an_autoencoder_without_latent_channels_is_refused():
    with pytest.raises(ValueError, match="latent channels"):
        VAEConfig(latent_channels=0)


@pytest.mark.parametrize("widths", [(10,), (16, 20), (0,), ()])
def test_bad_autoencoder_widths_are_refused(widths):
    with pytest.raises(ValueError, match="widths"):
        VAEConfig(widths=widths)


@pytest.mark.parametrize("latent_size", [4, 8, 16, 32])
def test_the_unet_keeps_the_shape_of_its_latents(latent_size):
    unet = build_seeded(UNetConfig(latent_size, 3, num_classes=10, widths=(32, 32), layers_per_block=1))
    latents, labels = torch.randn(2, 3, latent_size, latent_size), torch.tensor([0, 10])
    prediction = unet(latents, torch.tensor([0, 999]), labels).sample
    assert prediction.shape == latents.shape
    assert prediction.isfinite().all()


def test_a_labelled_unet_has_one_more_embedding_for_the_null_class():
    unet = build_seeded(UNetConfig(8, 4, num_classes=10, widths=(16, 32), layers_per_block=1))
    assert unet.config.num_class_embeds == 11
    latents = torch.randn(1, 4, 8, 8).expand(11, -1, -1, -1)
    predictions = unet(latents, 500, torch.arange(11)).sample
    assert len(predictions.flatten(1).unique(dim=0)) == 11


def test_an_unlabelled_unet_takes_no_labels():
    unet = build_seeded(UNetConfig(8, 4, num_classes=0, widths=(16, 32), layers_per_block=1))
    assert unet.config.num_class_embeds is None
    assert unet(torch.randn(1, 4, 8, 8), 500).sample.shape == (1, 4, 8, 8)


@pytest.mark.parametrize(("attention_max_side", "attends"), [(0, []), (4, [4]), (8, [8, 4])])
def test_attention_acts_at_grids_up_to_the_side_given(attention_max_side, attends):
    unet = UNetConfig(8, 4, 10, widths=(32, 32), layers_per_block=1, attention_max_side=attention_max_side).build()
    down = [8 >> level for level, kind in enumerate(unet.config.down_block_types) if "Attn" in kind]
    up = [4 << level for level, kind in enumerate(unet.config.up_block_types) if "Attn" in kind]
    assert (down, up) == (attends, attends[::-1])


def test_every_attention_sees_normalised_features():
    unet = UNetConfig(8, 4, 10, widths=(32, 32), layers_per_block=1).build()
    attentions = [module for module in unet.modules() if isinstance(module, Attention)]
    assert len(attentions) == 4
    assert all(attention.group_norm is not None for attention in attentions)


@pytest.mark.parametrize(
    ("latent_size", "widths"), [(4, (16, 16, 16, 16)), (6, (16, 16, 16)), (8, (16, 20)), (8, (10,)), (8, (0,)), (8, ())]
)
def test_unet_widths_that_do_not_fit_are_refused(latent_size, widths):
    with pytest.raises(ValueError, match="widths"):
        UNetConfig(latent_size, 4, 10, widths=widths)


@pytest.mark.parametrize(("latent_size", "widths"), [(4, (16, 32)), (4, (16,)), (8, (16, 16)), (4, (48,))])
def test_unet_widths_are_either_refused_or_built(latent_size, widths):
    try:
        config = UNetConfig(latent_size, 4, 10, widths=widths, layers_per_block=1)
    except ValueError as refusal:
        assert "width" in str(refusal)  # noqa: PT017
    else:
        assert config.build()(torch.randn(1, 4, latent_size, latent_size), 0, torch.tensor([1])).sample.isfinite().all()


def test_flops_are_those_of_convolutions_and_of_attention():
    convolution = torch.nn.Conv2d(3, 8, 3, padding=1)
    assert count_flops(lambda: convolution(torch.zeros(2, 3, 10, 10))) == 2 * (2 * 8 * 10 * 10) * (3 * 3 * 3)
    q = torch.zeros(1, 2, 16, 32)  # heads, places, features
    attention = torch.nn.functional.scaled_dot_product_attention
    assert count_flops(lambda: attention(q, q, q)) == 2 * 2 * (2 * 16 * 16 * 32)


LARGEST = {
    "depth": TransformerConfig(8, 4, 10, width=32, depth=64),
    "width": TransformerConfig(8, 4, 10, width=4096, depth=1),
    "layers": UNetConfig(8, 4, 10, widths=(32,), layers_per_block=16),
    "levels": UNetConfig(128, 4, 10, widths=(32,) * 8, layers_per_block=1, attention_max_side=0),
    "halvings": VAEConfig(latent_size=2, image_side=256, widths=(16,), layers_per_block=16),
}


@pytest.mark.parametrize("config", LARGEST.values(), ids=LARGEST)
def test_the_largest_that_can_be_asked_for_is_read_again(config):
    check_size(config)
    with torch.device("meta"):
        network = config.build()
    CONFIGS[type(network).__name__].validate_json(network.to_json_string())


@pytest.mark.parametrize(
    ("config", "options", "match"),
    [
        (TransformerConfig, {"depth": 65}, "depth 65: give 1 to 64 blocks"),
        (TransformerConfig, {"width": 4128}, "width 4128: give a multiple of 32, .* up to 4096"),
        (TransformerConfig, {"patch_size": 3}, "patches of side 3 do not divide a latent of side 8: give 1, 2, 4, 8"),
        (UNetConfig, {"layers_per_block": 17}, "layers per block are 17: give 1 to 16"),
        (UNetConfig, {"widths": (8208,)}, "give at most 8192 channels"),
    ],
)
def test_a_network_that_no_folder_could_be_read_with_is_refused_before_it_is_trained(config, options, match):
    with pytest.raises(ValueError, match=match):
        config(8, 4, 10, **options)


def test_so_are_an_autoencoder_and_a_unet_of_too_many_levels():
    with pytest.raises(ValueError, match="latent size 1 is 8 times half of a side of 256: give 2 or more"):
        VAEConfig(latent_size=1, image_side=256)
    with pytest.raises(ValueError, match="9 widths: give at most 8"):
        UNetConfig(256, 4, 10, widths=(32,) * 9)
    with pytest.raises(ValueError, match="layers per block are 17: give 1 to 16"):
        VAEConfig(layers_per_block=17)


def test_a_network_of_too_many_values_is_refused_before_memory_is_taken():
    with pytest.raises(ValueError, match=r"has 4,\d+,\d+,\d+ values, and one of at most 500,000,000 is read again"):
        check_size(TransformerConfig(8, 4, 10, width=4096, depth=13))
