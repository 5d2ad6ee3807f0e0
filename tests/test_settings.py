"""What was chosen in a room, from the page's address."""

import re

import pytest

from ldm_explorer.ui.rooms.denoising import DenoisingSettings

ASKED = "checkpoint=run&class_name=Bag&seed=3&steps=7&guidance=2.5"


def test_what_is_not_given_has_its_default():
    chosen, beside = DenoisingSettings.read(ASKED)
    assert (chosen.checkpoint, chosen.seed, chosen.steps, chosen.guidance, chosen.images) == ("run", 3, 7, 2.5, 1)
    assert beside is None


def test_b_differs_in_what_stands_after_b():
    chosen, beside = DenoisingSettings.read(f"{ASKED}&b.steps=50&b.sampler=ddim")
    assert beside == chosen.model_copy(update={"steps": 50, "sampler": "ddim"})


def test_parameters_of_other_rooms_are_left_out():
    assert DenoisingSettings.read(f"{ASKED}&fault=clip&room=faults&b.fault=x") == DenoisingSettings.read(ASKED)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("steps=many", "Steps is 'many': give a valid integer"),
        ("steps=0", "Steps is '0': give 1 to 250"),
        ("steps=251", "Steps is '251': give 1 to 250"),
        ("guidance=nan", "Guidance scale is 'nan': give"),
        ("sampler=none", "Sampler is 'none': give 'dpm++', 'unipc'"),
        ("seed=1e99", "Seed is '1e99': give a valid integer"),
        ("b.steps=-1", "Steps is '-1': give 1 to 250"),
    ],
)
def test_a_value_that_does_not_fit_is_named_as_the_page_names_it(wrong, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        DenoisingSettings.read(f"{ASKED}&{wrong}")


def test_a_missing_one_is_named():
    with pytest.raises(ValueError, match="Checkpoint is missing: give checkpoint"):
        DenoisingSettings.read("class_name=Bag")


def test_a_flood_of_parameters_is_refused():
    with pytest.raises(ValueError, match="more than 100 parameters"):
        DenoisingSettings.read("&".join(f"p{index}=1" for index in range(1000)))
