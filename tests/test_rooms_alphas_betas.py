"""The room of schedules: one image, one noise, every schedule."""

from html import unescape

import pytest
import torch

from ldm_explorer.data import to_uint8
from ldm_explorer.explore.images import example_image
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.schedule import compare_schedules, describe, noise_image
from ldm_explorer.schedules import FLOW, SCHEDULES, FlowSchedule, make_schedule
from ldm_explorer.ui import betas
from ldm_explorer.ui.answers import answers, size_of
from ldm_explorer.ui.betas import BetasSettings
from ldm_explorer.ui.pictures import png_data_uri
from ldm_explorer.ui.results import Results
from ldm_explorer.ui.rooms import alphas_betas
from ldm_explorer.ui.rooms.alphas_betas import NUM_FRAMES, ScheduleSettings
from ldm_explorer.ui.server.turns import Job


@pytest.fixture(scope="module")
def library(ldm_folder, color_folder) -> Library:
    return open_library(ldm_folder.parents[1], color_folder.parents[1])


def answer(library: Library, **other):
    chosen = {"checkpoint": "tiny-ldm", "class_name": "Bag"} | other
    (answered,) = alphas_betas.answer(library, ScheduleSettings(**chosen), None)
    return answered


def test_every_schedule_noises_the_same_image_with_the_same_noise(library):
    show, *figures = answer(library, seed=3)
    image = example_image(library.get("tiny-ldm"), "Bag", 0)
    schedules = [*compare_schedules(1000, 1e-4, 0.02), FlowSchedule(1000)]
    expected = noise_image(library.get("tiny-ldm"), image.pixels, schedules, 3, NUM_FRAMES)
    assert [side["title"] for side in show["sides"]] == [*SCHEDULES, FLOW]
    assert [len(figure.data) for figure in figures] == [len(SCHEDULES) + 1] * 2
    for place, frame in enumerate(show["frames"]):
        for side, result in zip(frame["sides"], expected, strict=True):
            shown = [picture["src"] for picture in side]
            assert shown == [png_data_uri(to_uint8(part[place])) for part in (result.pixels, result.decoded)]
    assert len(show["frames"]) == show["total"] == NUM_FRAMES
    assert [show["frames"][place]["x"] for place in (0, -1)] == [0, 999]


def test_when_noise_takes_over_stands_beside_every_schedule(library):
    show, *_ = answer(library)
    facts = {side["title"]: dict(side["facts"]) for side in show["sides"]}
    assert facts["cosine"]["half noise"] == "t = 496, 50% of the way"
    assert facts["linear"]["terminal SNR"] == "4e-05"
    assert facts["flow"] == {"half noise": "t = 500, 50% of the way", "terminal SNR": "0"}
    assert [side[0]["caption"] for side in show["frames"][10]["sides"]][-1] == "s 0.5"
    short, *_ = answer(library, num_timesteps=10, beta_end=1e-3)
    assert dict(short["sides"][0]["facts"])["half noise"] == "never"


def test_another_length_and_range_give_other_schedules(library):
    show, alpha_bar, _ = answer(library, num_timesteps=100, beta_start=0.01, beta_end=0.05)
    assert show["frames"][-1]["x"] == 99
    expected = make_schedule("linear", 100, 0.01, 0.05).alpha_bars
    assert torch.allclose(torch.tensor(alpha_bar.data[0].y), expected)


def test_images_in_colour_are_noised_too(library):
    show, *_ = answer(library, checkpoint="tiny-color", class_name="red")
    assert len(show["frames"]) == NUM_FRAMES


def test_every_schedule_is_put_into_words_beside_its_betas(library):
    ((words, beta, alpha),) = betas.answer(library, BetasSettings(), None)
    assert words.count("terminal SNR") == len(SCHEDULES)
    for name in SCHEDULES:
        assert describe(make_schedule(name)) in unescape(words)
    assert [len(figure.data) for figure in (beta, alpha)] == [len(SCHEDULES)] * 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("beta_start=0.02&beta_end=1e-4", "give 0 < beta_start <= beta_end < 1"),
        ("num_timesteps=9", "T, number of timesteps is '9'"),
        ("beta_end=2", "beta at t = T - 1 is '2'"),
    ],
)
def test_what_makes_no_schedule_is_refused_in_a_sentence(library, asked, said):
    with pytest.raises(ValueError, match=said):
        list(answers(alphas_betas, library, Results(size_of), f"checkpoint=tiny-ldm&class_name=Bag&{asked}", Job()))
    with pytest.raises(ValueError, match=said):
        list(answers(betas, library, Results(size_of), asked, Job()))
