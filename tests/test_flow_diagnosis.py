"""Flows under diagnosis: small networks that were trained along one, as they are and with what people get wrong."""

import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from folder_edits import edit_json

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks import CHECKS
from ldm_explorer.diagnosis.checks.settings import sampled_schedule
from ldm_explorer.diagnosis.examination import examine, run_check
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.diagnosis.remedies import remedy
from ldm_explorer.diagnosis.sampling import Sampling
from ldm_explorer.diagnosis.verdicts import Diagnosis, explain
from ldm_explorer.networks import rebuilt
from ldm_explorer.prediction import add_noise, target
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.schedules import FlowSchedule, Schedule, make_schedule

STEPS, BATCH, SIDE = 150, 64, 4
FLOW = FlowSchedule(1000)


def bars(count: int, seed: int = 0) -> torch.Tensor:
    """Grey bars over black, `(count, 1, 4, 4) uint8`: a pixel tells of its whole column."""
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randint(0, 2, (count, 1, 1, SIDE // 2), generator=generator).repeat_interleave(2, -1)
    return (columns * 255).byte().expand(-1, 1, SIDE, SIDE).contiguous()


def trained(schedule: Schedule, prediction: str, shift_of_noise: float = 1.0) -> UNet2DModel:
    """A network that has learned bars; with a shift it is told the time before it, and the noise is that after it."""
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=SIDE,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(16,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
        add_attention=False,
    )
    images = bars(2048, seed=1).float() / 127.5 - 1
    optimizer = torch.optim.AdamW(network.parameters(), 6e-3)
    generator = torch.Generator().manual_seed(2)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 6e-3 * (1 - step / STEPS)
        z0 = images[torch.randint(0, len(images), (BATCH,), generator=generator)]
        eps = torch.randn(z0.shape, generator=generator)
        told = schedule.timesteps[torch.randint(0, schedule.num_timesteps, (BATCH,), generator=generator)]
        s = told / schedule.num_timesteps
        noised = schedule.num_timesteps * shift_of_noise * s / (1 + (shift_of_noise - 1) * s)
        mixed = schedule.at(told if shift_of_noise == 1 else noised)
        output = network(add_noise(z0, eps, mixed), told).sample
        loss = (output - target(prediction, z0, eps, mixed)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


def backwards(network: UNet2DModel, length: int = 1000) -> UNet2DModel:
    """The same function, told T - t, of the opposite output: what training with data at s = 1 would have given.

    The first layer sees cos(w t) and sin(w t), and those of T - t are a rotation of them.
    """
    network = deepcopy(network)
    frequencies = network.time_proj.num_channels // 2
    w = torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(frequencies) / frequencies)
    cos, sin = (w * length).cos(), (w * length).sin()
    weight = network.time_embedding.linear_1.weight
    of_cos, of_sin = weight[:, :frequencies].clone(), weight[:, frequencies:].clone()
    weight[:, :frequencies], weight[:, frequencies:] = of_cos * cos + of_sin * sin, of_cos * sin - of_sin * cos
    return opposite(network)


def opposite(network: UNet2DModel) -> UNet2DModel:
    network = deepcopy(network)
    network.conv_out.weight.neg_()
    network.conv_out.bias.neg_()
    return network


def scaled(network: UNet2DModel, factor: float = 1.8) -> UNet2DModel:
    network = deepcopy(network)
    network.conv_out.weight.mul_(factor)
    network.conv_out.bias.mul_(factor)
    return network


def case_of(network: UNet2DModel, scheduler) -> Case:
    """A folder of pixels without a record, and images for it."""
    config = dict(scheduler.config) | {"_class_name": type(scheduler).__name__}
    return Case(Path("flow"), {}, [], None, network, scheduler, config, None, False, images=bars(64))


@pytest.fixture(scope="module")
def u() -> UNet2DModel:
    return trained(FLOW, "flow")


@pytest.fixture(scope="module")
def v() -> UNet2DModel:
    return trained(make_schedule("cosine"), "v_prediction")


@pytest.fixture(scope="module")
def shifted() -> UNet2DModel:
    return trained(FLOW, "flow", shift_of_noise=4.0)


def diagnosed(network: UNet2DModel, scheduler) -> Diagnosis:
    return examine(case_of(network, scheduler))


U_SCHEDULER = make_scheduler(FLOW, "flow")
V_SCHEDULER = make_scheduler(make_schedule("cosine"), "v_prediction")


@pytest.mark.parametrize("scheduler", [U_SCHEDULER, make_scheduler(FLOW, "flow", 3.0)], ids=["no shift", "shift 3"])
def test_a_healthy_flow_is_accused_of_nothing(u, scheduler):
    found = diagnosed(u, scheduler)
    assert found.causes == []
    assert {verdict.name for verdict in found.verdicts if verdict.status == "ok"} >= {
        *("time_response", "path", "prediction_type", "schedule_by_behaviour", "terminal_snr", "spacing", "learned")
    }


def test_a_shift_that_spaces_the_steps_anew_is_said(u):
    recorded = {"schedule": "flow", "num_timesteps": 1000}
    said = [
        sampled_schedule(replace(case_of(u, make_scheduler(FLOW, "flow", shift)), config=recorded)).evidence
        for shift in (1.0, 3.0)
    ]
    assert said[1] == said[0].removesuffix(".") + ", its steps spaced by a shift of 3."


def test_a_healthy_model_along_betas_is_no_flow(v):
    assert diagnosed(v, V_SCHEDULER).causes == []


FAULTS: dict[str, tuple[Callable[[dict], tuple], str, str]] = {
    "reversed time": (
        lambda networks: (backwards(networks["u"]), U_SCHEDULER),
        "path",
        "A flow's time runs the other way: it was trained with data at s = 1",
    ),
    "opposite velocity": (
        lambda networks: (opposite(networks["u"]), U_SCHEDULER),
        "path",
        "The velocity points the other way: it predicts z0 - eps",
    ),
    "u for v": (
        lambda networks: (networks["u"], V_SCHEDULER),
        "path",
        "It predicts the flow velocity u = eps - z0, and is sampled along betas",
    ),
    "v for u": (
        lambda networks: (networks["v"], U_SCHEDULER),
        "path",
        "It predicts v_prediction along betas, and is sampled as a flow",
    ),
    "u read as epsilon": (
        lambda networks: (networks["u"], make_scheduler(FLOW, "epsilon")),
        "prediction_type",
        "The output is read as epsilon, and it is flow",
    ),
    "another length": (
        lambda networks: (networks["u"], make_scheduler(FlowSchedule(250), "flow")),
        "schedule_by_behaviour",
        "It is told other times than in training",
    ),
    "noise shifted and times not": (
        lambda networks: (networks["shifted"], U_SCHEDULER),
        "schedule_by_behaviour",
        "It is told other times than in training",
    ),
    "an output that is too large": (
        lambda networks: (scaled(networks["v"]), V_SCHEDULER),
        "output_scale",
        "The output is 1.8 times what it was trained to be",
    ),
    "a velocity that is too large": (
        lambda networks: (scaled(networks["u"], 1.5), U_SCHEDULER),
        "output_scale",
        "The output is 1.5 times what it was trained to be",
    ),
    "a velocity that is too small": (
        lambda networks: (scaled(networks["u"], 0.6), U_SCHEDULER),
        "output_scale",
        "The output is 0.59 times what it was trained to be",
    ),
    "far too large a shift": (
        lambda networks: (networks["u"], make_scheduler(FLOW, "flow", 60.0)),
        "spacing",
        "The shift leaves most of the way to one step",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_a_flow_is_named_first(u, v, shifted, name):
    make, check, title = FAULTS[name]
    first = diagnosed(*make({"u": u, "v": v, "shifted": shifted})).causes[0]
    assert (first.name, first.title) == (check, title)


def test_a_network_that_is_built_otherwise_is_not_named_after_the_scale_of_its_output(u):
    """Normed one channel at a time it fits best with another scale, too."""
    case = case_of(rebuilt(u, norm_num_groups=16), U_SCHEDULER)
    verdicts = [run_check(check, case) for check in CHECKS if check.name in ("network_config", "output_scale")]
    assert next(verdict.status for verdict in verdicts if verdict.name == "network_config") == "suspect"
    explained = explain(verdicts, {check.name: check.explains for check in CHECKS})
    assert [cause.name for cause in Diagnosis("model", explained).causes] == ["network_config"]


def test_a_record_of_betas_beside_a_flow_says_which_scheduler_to_write(flow_folder, tmp_path):
    folder = tmp_path / "of betas"
    shutil.copytree(flow_folder, folder)
    edit_json(folder / "train_config.json", schedule="linear", num_timesteps=1000, prediction="epsilon")
    (check,) = (check for check in CHECKS if check.name == "schedule")
    verdict = run_check(check, open_case(folder))
    assert "a DDPMScheduler with trained_betas of make_schedule('linear', 1000), which predicts epsilon" in verdict.fix
    pipeline = read_checkpoint(flow_folder).pipeline
    assert isinstance(remedy(verdict)(Sampling.right(pipeline)).scheduler, DDIMScheduler)


def test_latents_of_another_side_than_those_kept_of_training_are_named(flow_folder, tmp_path):
    folder = tmp_path / "larger"
    shutil.copytree(flow_folder, folder)
    edit_json(folder / "unet/config.json", sample_size=16)
    (check,) = (check for check in CHECKS if check.name == "network_config")
    verdict = run_check(check, open_case(folder))
    assert (verdict.status, verdict.fix) == ("suspect", 'unet/config.json: "sample_size": 8')


def test_the_shift_between_noise_and_times_is_named(shifted):
    (cause,) = diagnosed(shifted, U_SCHEDULER).causes
    said = cause.evidence.rpartition("noise was shifted by ")[2].partition(",")[0]
    assert float(said) in (3, 4, 6)


def test_another_length_is_named(u):
    (cause,) = diagnosed(u, make_scheduler(FlowSchedule(400), "flow")).causes
    said = cause.evidence.rpartition("most like a flow over ")[2].partition(".")[0]
    assert said == "1000"


def test_epsilon_is_accused_where_a_shift_leaves_no_image_at_the_start(u):
    plain, far = (make_scheduler(FLOW, "epsilon", shift) for shift in (1.0, 3.0))
    accused = [
        {verdict.name for verdict in diagnosed(u, scheduler).verdicts if verdict.status == "suspect"}
        for scheduler in (plain, far)
    ]
    assert ["terminal_snr" in names for names in accused] == [False, True]
