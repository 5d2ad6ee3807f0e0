import math

import pytest
import torch
from diffusers import DDIMScheduler

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.explore.images import example_image
from ldm_explorer.explore.velocity import (
    CLEAN,
    VelocityView,
    decode_latents,
    schedule_of,
    view_schedule,
    view_velocity,
)
from ldm_explorer.figures.velocity import coefficient_figure
from ldm_explorer.latents import decode_images
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.schedules import SCHEDULES, make_schedule


@pytest.fixture(scope="module")
def ldm(ldm_folder):
    return read_checkpoint(ldm_folder)


def make_view(t: int, s: int, schedule: str = "cosine") -> VelocityView:
    generator = torch.Generator().manual_seed(0)
    z0, eps = torch.randn(2, 4, 8, 8, generator=generator)
    return VelocityView(make_schedule(schedule).amplitudes, t, s, z0, eps)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("t", [199, 599, 999])
def test_the_velocity_and_the_step_are_those_of_diffusers(schedule, t):
    view = make_view(t, t - 200, schedule)
    config = make_scheduler(make_schedule(schedule), "v_prediction").config
    scheduler = DDIMScheduler.from_config(config, clip_sample=False)
    scheduler.set_timesteps(5)
    steps = torch.tensor([t])
    assert torch.equal(view.v, scheduler.get_velocity(view.z0[None], view.eps[None], steps)[0])
    assert torch.equal(view.z_t, scheduler.add_noise(view.z0[None], view.eps[None], steps)[0])
    stepped = scheduler.step(view.v, t, view.z_t)
    assert torch.allclose(view.z_s, stepped.prev_sample, atol=1e-5)
    assert torch.allclose(view.z0_back, stepped.pred_original_sample, atol=1e-5)


@pytest.mark.parametrize("t", [0, 1, 500, 999])
def test_the_way_back_is_exact_and_lengths_are_kept(t):
    view = make_view(t, CLEAN)
    assert torch.allclose(view.z0_back, view.z0, atol=1e-5)
    assert torch.allclose(view.eps_back, view.eps, atol=1e-5)
    assert torch.allclose(view.z_s, view.z0, atol=1e-5)
    assert torch.allclose(view.z_t**2 + view.v**2, view.z0**2 + view.eps**2, atol=1e-4)


def test_a_step_turns_z_t_back_by_the_angle_between():
    view = make_view(700, 300)
    between = view.angle - view.angle_s
    assert torch.allclose(view.z_s, math.cos(between) * view.z_t - math.sin(between) * view.v, atol=1e-5)
    assert math.cos(view.angle) == pytest.approx(float(view.mixed.a), abs=1e-6)
    assert make_view(0, CLEAN).angle_s == 0


def test_a_view_is_of_the_checkpoint_own_latent_schedule_and_seed(ldm):
    pixels = example_image(ldm, "Bag", 0).pixels
    view = view_velocity(ldm, pixels, seed=3, t=500, stride=1)
    assert torch.equal(view.steps.a, ldm.pipeline.scheduler.alphas_cumprod.sqrt())
    assert torch.equal(view.z0, ldm.pipeline.codec.encode(pixels)[0])
    assert torch.equal(view.eps, torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(3)))
    assert view.s == 499
    assert view_velocity(ldm, pixels, seed=3, t=0, stride=5).s == CLEAN
    with pytest.raises(ValueError, match="t is 1000: give 0 to 999"):
        view_velocity(ldm, pixels, 3, 1000, 1)
    with pytest.raises(ValueError, match="at least 1"):
        view_velocity(ldm, pixels, 3, 10, 0)


def test_an_autoencoder_alone_is_shown_on_a_cosine_schedule(library):
    schedule, whose = schedule_of(library.get("tiny-vae"))
    assert torch.equal(schedule.alpha_bars, make_schedule("cosine").alpha_bars)
    assert "without one" in whose


def test_a_schedule_is_viewed_from_end_to_end_with_one_latent_and_one_noise(ldm):
    pixels = example_image(ldm, "Bag", 0).pixels
    views = view_schedule(ldm, pixels, seed=3, stride=100, num_views=5)
    assert [(view.t, view.s) for view in views] == [(0, CLEAN), (250, 150), (500, 400), (749, 649), (999, 899)]
    alone = view_velocity(ldm, pixels, seed=3, t=500, stride=100)
    for name in ("z0", "eps", "z_t", "v", "z_s"):
        assert torch.equal(getattr(views[2], name), getattr(alone, name))


def test_latents_of_all_views_are_decoded_as_each_alone(ldm):
    views = view_schedule(ldm, example_image(ldm, "Bag", 0).pixels, seed=3, stride=400, num_views=3)
    decoded = decode_latents(ldm, views)
    assert len(decoded) == len(views)
    for view, images in zip(views, decoded, strict=True):
        assert {image.shape for image in images.values()} == {(1, 28, 28)}
        for name, image in images.items():
            alone = decode_images(ldm.codec, getattr(view, name)[None], ldm.spec)[0]
            assert (image.int() - alone.int()).abs().max() <= 1, name


def test_a_and_b_are_the_schedule_own():
    schedules = [(name, make_schedule(schedule)) for name, schedule in (("run", "cosine"), ("other", "linear"))]
    cosine, linear = (schedule.alpha_bars for _, schedule in schedules)
    a, b = coefficient_figure(schedules[:1]).data
    assert list(a.y) == cosine[list(a.x)].sqrt().tolist()
    assert list(b.y) == (1 - cosine[list(b.x)]).sqrt().tolist()
    *_, other_a, other_b = coefficient_figure(schedules).data
    assert list(other_a.y) == linear[list(other_a.x)].sqrt().tolist()
    assert (other_a.line.color, other_b.line.color) == (a.line.color, b.line.color)
    assert other_a.line.dash == other_b.line.dash != a.line.dash
    assert "other" in other_a.name
