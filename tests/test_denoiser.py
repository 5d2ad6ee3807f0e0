"""Whatever takes noise away: a network with its labels and shapes, and what answers in its place."""

from types import SimpleNamespace

import pytest
import torch
from conftest import uneven_statistics
from helpers import build_seeded
from torch import nn

from ldm_explorer.denoiser import NetworkDenoiser, StandIn
from ldm_explorer.diagnosis.denoisers import DENOISERS, make_denoiser
from ldm_explorer.models import UNetConfig
from ldm_explorer.prediction import PREDICTION_TYPES, to_z0
from ldm_explorer.samplers import make_scheduler, own_schedule
from ldm_explorer.schedules import SCHEDULES, make_schedule

COSINE = make_schedule("cosine")


class Foreign(nn.Module):
    """As a UNet of somebody else's may be: of an oblong latent, with a learned variance, and without labels."""

    config = SimpleNamespace(sample_size=[2, 3], in_channels=4, num_class_embeds=None)

    def forward(self, z_t, timestep, return_dict):
        assert not return_dict
        return (torch.cat([z_t * timestep, torch.full_like(z_t, torch.nan)], 1),)


@pytest.fixture
def z_t():
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def test_no_labels_are_the_null_class(tiny_unet, z_t):
    denoiser = NetworkDenoiser(tiny_unet, "v_prediction", COSINE)
    assert denoiser.null_class == 10
    null, dress = (denoiser.predict(z_t, 500, torch.full((3,), label)) for label in (10, 3))
    assert torch.equal(denoiser.predict(z_t, 500), null)
    assert not torch.equal(null, dress)
    assert torch.equal(null, tiny_unet(z_t, 500, torch.full((3,), 10)).sample)


def test_a_network_without_labels_is_asked_for_none(z_t):
    unet = build_seeded(UNetConfig(8, 4, num_classes=0, widths=(16, 32), layers_per_block=1))
    denoiser = NetworkDenoiser(unet, "epsilon", COSINE)
    assert denoiser.null_class is None
    assert torch.equal(denoiser.predict(z_t, 10), unet(z_t, 10).sample)


def test_a_learned_variance_is_left_out_and_an_oblong_latent_keeps_its_shape():
    denoiser, z_t = NetworkDenoiser(Foreign(), "epsilon", COSINE), torch.ones(2, 4, 2, 3)
    assert denoiser.latent_shape == (4, 2, 3)
    assert torch.equal(denoiser.predict(z_t, 7), 7 * z_t)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_z0_is_what_the_prediction_implies(tiny_unet, z_t, prediction_type):
    denoiser = NetworkDenoiser(tiny_unet, prediction_type, COSINE)
    expected = to_z0(prediction_type, denoiser.predict(z_t, 300), z_t, COSINE.alpha_bars[300])
    assert torch.equal(denoiser.z0(z_t, 300), expected)


def test_a_prediction_has_no_gradient(tiny_unet, z_t):
    assert not NetworkDenoiser(tiny_unet, "epsilon", COSINE).predict(z_t.requires_grad_(), 3).requires_grad


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_of_a_scheduler_is_its_alphas_bit_for_bit(name, zero_terminal_snr):
    scheduler = make_scheduler(make_schedule(name, zero_terminal_snr=zero_terminal_snr), "v_prediction")
    assert torch.equal(own_schedule(scheduler).alpha_bars, scheduler.alphas_cumprod)


@pytest.mark.parametrize("name", DENOISERS)
def test_what_answers_in_its_place_is_of_the_same_latents_classes_and_schedule(tiny_pipeline, z_t, name):
    network = tiny_pipeline.denoiser
    denoiser = make_denoiser(name, uneven_statistics(), network)
    for field in ("prediction_type", "schedule", "latent_shape", "null_class"):
        assert getattr(denoiser, field) == getattr(network, field)
    implied = to_z0("v_prediction", denoiser.predict(z_t, 500), z_t, network.schedule.alpha_bars[500])
    assert torch.allclose(denoiser.z0(z_t, 500), implied, atol=1e-5)


def test_any_denoiser_is_sampled_from_in_the_place_of_the_pipeline_s(tiny_pipeline):
    class GreyImage(StandIn):
        """Takes every latent for noise over the mean latent, 0: z_t = b eps and v = a eps."""

        def forward(self, z_t, timestep, class_labels=None):  # noqa: ARG002
            alpha_bar = self.schedule.alpha_bars[timestep]
            return (alpha_bar / (1 - alpha_bar)).sqrt() * z_t

    *_, last = tiny_pipeline.denoise([1], [0], num_inference_steps=3, denoiser=GreyImage(tiny_pipeline.denoiser))
    assert torch.allclose(last.z_next, torch.zeros(1, 4, 8, 8), atol=1e-5)
