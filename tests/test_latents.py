import copy

import pytest
import torch

from ldm_explorer import latents
from ldm_explorer.data import to_model
from ldm_explorer.latents import (
    LatentCodec,
    Posterior,
    encode_posterior,
    in_batches,
    kl_per_value,
    measure_statistics,
)


def test_sampled_training_latents_have_mean_0_and_std_1_per_channel(tiny_vae, shapes):
    posterior = encode_posterior(LatentCodec(tiny_vae), shapes.images)
    mean = posterior.mean.double().mean(dim=(0, 2, 3))
    variance = posterior.mean.double().var(dim=(0, 2, 3), correction=0) + posterior.std.double().square().mean(
        (0, 2, 3)
    )
    assert torch.allclose(mean, torch.zeros(4).double(), atol=1e-5)
    assert torch.allclose(variance, torch.ones(4).double(), atol=1e-5)

    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(0))
    sampled = posterior.sample(noise)
    assert torch.allclose(sampled.mean(dim=(0, 2, 3)), torch.zeros(4), atol=0.03)
    assert torch.allclose(sampled.std(dim=(0, 2, 3)), torch.ones(4), atol=0.03)


def test_the_posterior_matters_to_the_statistics(tiny_vae, shapes):
    """Else the test above would pass with the std of the means alone."""
    posterior = encode_posterior(LatentCodec(tiny_vae), shapes.images)
    assert (posterior.mean.var(dim=(0, 2, 3)) < 0.95).all()


def test_statistics_do_not_depend_on_the_batches_they_are_measured_in(tiny_vae, shapes, monkeypatch):
    vae = copy.deepcopy(tiny_vae)
    monkeypatch.setattr(latents, "BATCH_IMAGES", 30)
    measure_statistics(vae, shapes.images)
    assert vae.config.latents_mean == pytest.approx(tiny_vae.config.latents_mean, abs=1e-6)
    assert vae.config.latents_std == pytest.approx(tiny_vae.config.latents_std, abs=1e-6)


def test_normalised_latents_are_the_autoencoders_own_shifted_and_scaled(tiny_vae, shapes):
    codec, pixels = LatentCodec(tiny_vae), to_model(shapes.images[:8])
    raw = tiny_vae.encode(pixels).latent_dist
    posterior = codec.posterior(pixels)
    for channel in range(tiny_vae.config.latent_channels):
        mean, std = tiny_vae.config.latents_mean[channel], tiny_vae.config.latents_std[channel]
        assert torch.allclose(posterior.mean[:, channel] * std + mean, raw.mean[:, channel], atol=1e-5)
        assert torch.allclose(posterior.std[:, channel] * std, raw.std[:, channel], atol=1e-5)
    assert torch.equal(codec.encode(pixels), posterior.mean)


def test_decoding_what_was_encoded_is_the_autoencoders_own_reconstruction(tiny_vae, shapes):
    codec, pixels = LatentCodec(tiny_vae), to_model(shapes.images[:8])
    theirs = tiny_vae.decode(tiny_vae.encode(pixels).latent_dist.mode()).sample
    assert torch.allclose(codec.decode(codec.encode(pixels)), theirs, atol=1e-5)


@pytest.mark.parametrize("missing", ["latents_mean", "latents_std"])
def test_an_autoencoder_without_statistics_is_refused(tiny_vae, missing):
    vae = copy.deepcopy(tiny_vae)
    vae.register_to_config(**{missing: None})
    with pytest.raises(ValueError, match="latents_mean and latents_std"):
        LatentCodec(vae)


def test_encoding_a_set_equals_encoding_its_images(tiny_vae, shapes, monkeypatch):
    codec = LatentCodec(tiny_vae)
    whole = codec.posterior(to_model(shapes.images[:20]))
    monkeypatch.setattr(latents, "BATCH_IMAGES", 8)
    parts = encode_posterior(codec, shapes.images[:20])
    assert torch.allclose(parts.mean, whole.mean, atol=1e-5)
    assert torch.allclose(parts.std, whole.std, atol=1e-5)


def test_batches_are_bounded_and_keep_their_order():
    sizes = []

    def double(part):
        sizes.append(len(part))
        return 2 * part

    assert torch.equal(in_batches(double, torch.arange(10), batch_size=4), 2 * torch.arange(10))
    assert sizes == [4, 4, 2]


def test_a_posterior_is_sampled_by_scaling_and_shifting_the_noise():
    posterior = Posterior(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.0]))
    assert posterior.sample(torch.tensor([2.0, 5.0])).tolist() == [7.0, 2.0]


def test_kl_is_that_of_two_gaussians():
    generator = torch.Generator().manual_seed(0)
    mean, std = torch.randn(2, 3, 4, 4, generator=generator), torch.rand(2, 3, 4, 4, generator=generator) + 0.1
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, std), normal(0.0, 1.0))
    assert torch.allclose(Posterior(mean, std).kl(), expected, atol=1e-5)
    assert torch.allclose(kl_per_value(mean, std**2, 2 * std.log()), expected, atol=1e-5)
