"""The lens: any sampling path in the coordinates of a flow."""

import math

import pytest
import torch

from ldm_explorer.explore.denoising import denoise_images
from ldm_explorer.explore.flow_lens import Path, retraining, time_in, to_flow, view_as_flow
from ldm_explorer.explore.library import open_library
from ldm_explorer.figures.flow_lens import flow_lens_figure
from ldm_explorer.prediction import add_noise
from ldm_explorer.schedules import FlowSchedule, make_schedule
from ldm_explorer.ui import flow_lens
from ldm_explorer.ui.flow_lens import LensSettings


def test_a_straight_path_has_straightness_one_and_half_a_circle_pi_half():
    line = torch.linspace(0, 1, 7)[:, None, None] * torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(0))
    assert Path(line).straightness == pytest.approx(1)
    assert float(Path(line).off_chord[1].max()) < 1e-6
    angle = torch.linspace(0, math.pi, 2001)
    half = Path(torch.stack([angle.cos(), angle.sin()], -1)[:, None])
    assert half.straightness == pytest.approx(math.pi / 2, abs=1e-4)
    along, off = half.off_chord
    assert (float(along[1000]), float(off[1000])) == pytest.approx((0.5, 0.5), abs=1e-5)


@pytest.mark.parametrize("schedule", [make_schedule("cosine"), make_schedule("linear"), FlowSchedule(1000)])
def test_a_noisy_latent_of_any_schedule_is_one_of_a_flow(schedule):
    generator = torch.Generator().manual_seed(0)
    z0, eps = torch.randn(2, 4, 2, 3, 3, generator=generator)
    for timestep in schedule.timesteps[[0, 300, 700, 999]]:
        mixed = schedule.at(timestep)
        x, s = to_flow(add_noise(z0, eps, mixed), mixed)
        torch.testing.assert_close(x, (1 - s) * z0 + s * eps, atol=1e-5, rtol=1e-5)


def test_a_linear_walk_of_the_exact_denoiser_is_seen_at_the_steps_of_its_sampler(library):
    checkpoint = library.get("tiny-ldm")
    lens = view_as_flow(checkpoint, "Bag", 0, sampler="ddim", num_steps=4, guidance_scale=1.0)
    assert lens.own.points.shape == lens.flow.points.shape == (5, 8, math.prod(checkpoint.denoiser.latent_shape))
    assert float(lens.s[0]) == pytest.approx(1, abs=1e-3)
    assert lens.s.diff().max() < 0
    torch.testing.assert_close(lens.own.points[-1], lens.flow.points[-1])
    assert 1 <= lens.flow.straightness < 10
    one = view_as_flow(checkpoint, "Bag", 0, sampler="ddim", num_steps=1, guidance_scale=1.0)
    assert one.flow.straightness == pytest.approx(1)
    with pytest.raises(ValueError, match=r"one request may cost [\d,]+: ask for (\d+ steps?|another checkpoint);"):
        view_as_flow(checkpoint, "Bag", 0, sampler="ddim", num_steps=4, guidance_scale=1.0, max_gflops=1e-9)


def test_a_sampler_that_tries_a_point_and_goes_back_is_no_longer_for_it(flow_folder):
    checkpoint = open_library(flow_folder.parents[1]).get("tiny-flow")
    lens = view_as_flow(checkpoint, "Bag", 0, sampler="heun", num_steps=5, guidance_scale=1.0)
    assert len(lens.s) == 4
    assert lens.s.diff().max() < 0, "never twice at one time"


def test_latents_that_are_not_finite_are_no_answer(ldm_folder):
    checkpoint = open_library(ldm_folder.parents[1]).get("tiny-ldm")
    next(checkpoint.pipeline.unet.parameters()).data.flatten()[0] = math.nan
    walk = {"sampler": "ddim", "num_steps": 2, "guidance_scale": 1.0}
    with pytest.raises(ValueError, match="tiny-ldm gives latents that are not finite"):
        view_as_flow(checkpoint, "Bag", 0, **walk)
    with pytest.raises(ValueError, match="tiny-ldm gives latents that are not finite"):
        next(denoise_images(checkpoint, "Bag", 0, **walk))


def test_what_a_flow_would_change_is_said_in_the_schedules_own_numbers():
    cosine = make_schedule("cosine")
    s = (1 - cosine.alpha_bars).sqrt() / ((1 - cosine.alpha_bars).sqrt() + cosine.alpha_bars.sqrt())
    assert time_in(cosine, 0.9, 1.0) == pytest.approx(float((s > 0.9).float().mean()))
    assert time_in(FlowSchedule(1000), 0.9, 1.0) == pytest.approx(0.1, abs=0.002)
    assert any("SNR + 1" in sentence for sentence in retraining(cosine, "v_prediction"))
    assert retraining(FlowSchedule(1000), "flow") == ()


def test_the_part_shows_a_and_b_in_either_coordinates(library):
    chosen = LensSettings(checkpoint="tiny-ldm", class_name="Bag", sampler="ddim", steps=3)
    ((words, figure),) = flow_lens.answer(library, chosen, chosen.model_copy(update={"steps": 2}))
    assert len(figure.data) == 5
    assert str(words).count("times as long as the straight line") == 2
    assert "--schedule flow" in words
    own = view_as_flow(library.get("tiny-ldm"), "Bag", 0, sampler="ddim", num_steps=3, guidance_scale=1.0).own
    assert f"{own.straightness:.2f} times in its own" in words.replace("\n", " ")


def test_the_figures_title_stands_on_its_legend_and_is_not_covered_by_it():
    figure = flow_lens_figure([])
    assert figure.layout.title.text is None
    assert figure.layout.legend.title.text.startswith("How far off the straight line")
    assert len(figure.layout.legend.title.text) <= 45, "a phone shows no more"
