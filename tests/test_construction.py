"""A trained network that is put together in another way than in training is named by the way that fits it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DModel

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks import CHECKS
from ldm_explorer.diagnosis.examination import run_check
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.schedules import make_schedule
from ldm_explorer.shipped import shipped_checkpoints

CHECK = {check.name: check for check in CHECKS}
NAMES = ("channel_order", "network_config", "output_scale")


@pytest.fixture(scope="module")
def trained() -> Case:
    return open_case(shipped_checkpoints("sizes", "size-8x8x4"))


def built_with(**fields) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        network = UNet2DModel.from_config(case.network.config, **fields).eval().requires_grad_(False)
        network.load_state_dict(case.network.state_dict())
        return replace(case, network=network)

    return change


def louder(case: Case) -> Case:
    changed = built_with()(case)
    for tensor in changed.network.conv_out.state_dict().values():
        tensor *= 1.5
    return changed


def turned(case: Case) -> Case:
    """The first channels of the latents change places."""
    subset, order = case.statistics.subset, torch.tensor([1, 0, 2, 3])
    swapped = replace(subset, mean=subset.mean[:, order], std=subset.std[:, order])
    return replace(case, statistics=replace(case.statistics, subset=swapped))


@pytest.mark.parametrize(
    ("name", "change", "fix"),
    [
        ("network_config", built_with(flip_sin_to_cos=False), '"flip_sin_to_cos": true'),
        ("network_config", built_with(norm_num_groups=8), '"norm_num_groups": 16'),
        ("output_scale", louder, "conv_out"),
        ("channel_order", turned, "1, 0, 2, 3"),
    ],
)
def test_another_way_is_named(trained, name, change, fix):
    case = change(trained)
    found = {check: run_check(CHECK[check], case) for check in NAMES}
    assert [check for check, verdict in found.items() if verdict.status == "suspect"] == [name]
    assert fix in found[name].fix


@pytest.mark.parametrize("name", NAMES)
def test_as_it_was_trained_nothing_is_named(trained, name):
    assert run_check(CHECK[name], trained).status == "ok"


@pytest.mark.parametrize("name", NAMES)
def test_its_own_samples_say_nothing_of_how_it_is_built(ldm_folder, name):
    verdict = run_check(CHECK[name], open_case(ldm_folder))
    assert (verdict.status, verdict.evidence) == ("not run", "it needs images: give a folder of them with --images")


def test_a_wrong_schedule_is_not_taken_for_another_network(trained):
    schedule = make_scheduler(make_schedule("cosine", 400), "v_prediction")
    verdict = run_check(CHECK["network_config"], replace(trained, scheduler=schedule))
    assert verdict.status == "ok"
    assert "a matter of the schedule" in verdict.evidence
