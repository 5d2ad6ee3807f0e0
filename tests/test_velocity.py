import math

import gradio as gr
import pytest
import torch
from diffusers import DDIMScheduler

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.explore.formula import check_formula
from ldm_explorer.explore.images import example_image
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.velocity import CLEAN, VelocityView, decode_latents, schedule_of, view_velocity
from ldm_explorer.figures.style import LATENT_COLORS
from ldm_explorer.figures.velocity import coefficient_figure, plane_figure
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.schedules import SCHEDULES, make_schedule
from ldm_explorer.ui import velocity
from ldm_explorer.ui.common import bind

IMAGE = ("tiny-ldm", "Ankle boot", 1, None, 0)


@pytest.fixture(scope="module")
def library(ldm_folder, vae_folder) -> Library:
    return open_library(ldm_folder.parents[1], vae_folder.parents[1])


@pytest.fixture(scope="module")
def ldm(ldm_folder):
    return read_checkpoint(ldm_folder)


def make_view(t: int, s: int, schedule: str = "cosine") -> VelocityView:
    generator = torch.Generator().manual_seed(0)
    z0, eps = torch.randn(2, 4, 8, 8, generator=generator)
    return VelocityView(make_schedule(schedule).alpha_bars, t, s, z0, eps)


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
    assert math.cos(view.angle) == pytest.approx(float(view.alpha_bar.sqrt()), abs=1e-6)
    assert make_view(0, CLEAN).angle_s == 0


def test_a_view_is_of_the_checkpoint_own_latent_schedule_and_seed(ldm):
    pixels = example_image(ldm, "Bag", 0).pixels
    view = view_velocity(ldm, pixels, seed=3, t=500, stride=1)
    assert torch.equal(view.alpha_bars, ldm.pipeline.scheduler.alphas_cumprod)
    assert torch.equal(view.z0, ldm.pipeline.codec.encode(pixels)[0])
    assert torch.equal(view.eps, torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(3)))
    assert view.s == 499
    assert view_velocity(ldm, pixels, seed=3, t=0, stride=5).s == CLEAN
    assert {image.shape for image in decode_latents(ldm, view).values()} == {(1, 28, 28)}
    with pytest.raises(ValueError, match="t is 1000: give 0 to 999"):
        view_velocity(ldm, pixels, 3, 1000, 1)
    with pytest.raises(ValueError, match="at least 1"):
        view_velocity(ldm, pixels, 3, 10, 0)


def test_an_autoencoder_alone_is_shown_on_a_cosine_schedule(library):
    alpha_bars, whose = schedule_of(library.get("tiny-vae"))
    assert torch.equal(alpha_bars, make_schedule("cosine").alpha_bars)
    assert "without one" in whose


@pytest.mark.parametrize(("t", "s"), [(0, CLEAN), (500, 350), (999, 0)])
def test_the_plane_shows_z_t_on_the_circle_with_v_as_its_tangent(t, s):
    view = make_view(t, s)
    figure = plane_figure(view)
    arrows = {
        arrow.arrowcolor: ((arrow.ax, arrow.ay), (arrow.x, arrow.y))
        for arrow in figure.layout.annotations
        if arrow.showarrow
    }
    (_, z_t), (start, end) = arrows[LATENT_COLORS["z_t"]], arrows[LATENT_COLORS["v"]]
    assert z_t == pytest.approx((float(view.alpha_bar.sqrt()), float((1 - view.alpha_bar).sqrt())), abs=1e-6)
    assert start == z_t
    v = (end[0] - start[0], end[1] - start[1])
    assert v[0] * z_t[0] + v[1] * z_t[1] == pytest.approx(0, abs=1e-9)
    assert math.hypot(*v) == pytest.approx(1)
    x_range, y_range = figure.layout.xaxis.range, figure.layout.yaxis.range
    assert all(x_range[0] < x < x_range[1] and y_range[0] < y < y_range[1] for _, (x, y) in arrows.values())


def test_a_and_b_are_the_schedule_own():
    view = make_view(500, 350)
    a, b = coefficient_figure(view).data
    assert list(a.y) == view.alpha_bars[list(a.x)].sqrt().tolist()
    assert list(b.y) == (1 - view.alpha_bars[list(b.x)]).sqrt().tolist()


def test_the_tab_shows_five_latents_and_their_numbers(library):
    plane, coefficients, pictures, numbers = velocity.show_velocity(library, *IMAGE, 500, 150)
    assert pictures.count("<img") == 5
    assert "t = 500" in numbers
    assert "s = 350" in numbers
    assert "tiny-ldm was trained with" in numbers
    assert plane.layout.height
    assert coefficients.layout.height
    *_, numbers = velocity.show_velocity(library, "tiny-vae", *IMAGE[1:], 5, 150)
    assert "cosine schedule" in numbers
    assert "the clean end" in numbers


def test_a_t_of_a_longer_schedule_is_the_last_of_this_one(library):
    *_, numbers = velocity.show_velocity(library, *IMAGE, 5000, 150)
    assert "t = 999" in numbers
    assert velocity.offer_steps(library, "tiny-ldm", 5000) == gr.update(maximum=999, value=999)


def test_the_checker_answers_right_or_with_a_counter_example(library):
    right = velocity.check(library, "tiny-ldm", "z0", "a*z_t - b*v")
    assert "✓" in right
    assert "For example" not in right
    wrong = velocity.check(library, "tiny-vae", "z0", "z_s = a_s*z0 + b*eps")
    assert "✗" in wrong
    assert "the coefficient of eps is b" in wrong
    assert "and s = " in wrong
    assert "One that is right" in wrong
    assert "has no value" in velocity.check(library, "tiny-ldm", "z0", "sqrt(-1)*z_t")


def test_the_examples_are_what_they_say(library):
    assert all(check_formula(formula).right for formula in velocity.RIGHT.values())
    assert not any(check_formula(formula).right for formula in velocity.WRONG.values())
    for quantity, formula in velocity.RIGHT.items():
        assert velocity.check_example(library, "tiny-ldm", formula)[:2] == (quantity, formula)


def test_what_is_no_formula_is_shown_as_one_sentence_and_never_as_markup(library):
    with pytest.raises(gr.Error, match="leave the rest out"):
        bind(velocity.check, library)("tiny-ldm", "z0", "z_t.__class__")
    with pytest.raises(gr.Error, match="no formula"):
        bind(velocity.check, library)("tiny-ldm", "z0", "")
    with pytest.raises(gr.Error, match="cannot be read"):
        bind(velocity.check, library)("tiny-ldm", "z0", "<script>alert(1)</script>")
