"""Transformers under diagnosis: a small one that has learned, as it is and with what people get wrong."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DiTTransformer2DModel
from helpers import build_seeded
from torch import Tensor

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks import CHECKS
from ldm_explorer.diagnosis.examination import examine, run_check
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.explore.images import example_images
from ldm_explorer.models import TransformerConfig
from ldm_explorer.networks import rebuilt
from ldm_explorer.prediction import add_noise, target
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.schedules import Schedule, make_schedule
from ldm_explorer.shipped import shipped_checkpoints

STEPS, BATCH, SIDE, CLASSES = 400, 64, 8, 2
COSINE = make_schedule("cosine")
CHECK = {check.name: check for check in CHECKS}
SCHEDULER = make_scheduler(COSINE, "v_prediction")


def bars(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Grey bars over black, `(count, 1, 8, 8) uint8`; the label says whether the first is there."""
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randint(0, 2, (count, 1, 1, SIDE // 2), generator=generator)
    images = (columns.repeat_interleave(2, -1) * 255).byte().expand(-1, 1, SIDE, SIDE).contiguous()
    return images, columns[:, 0, 0, 0]


def trained(
    z0: Tensor, labels: Tensor | None, prediction: str = "v_prediction", schedule: Schedule = COSINE
) -> DiTTransformer2DModel:
    """A network that has learned latents or pixels."""
    config = TransformerConfig(SIDE, z0.shape[1], 0 if labels is None else CLASSES, width=32, depth=2, patch_size=2)
    network = build_seeded(config).requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3)
    generator = torch.Generator().manual_seed(2)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / STEPS)
        chosen = torch.randint(0, len(z0), (BATCH,), generator=generator)
        eps = torch.randn(BATCH, *z0.shape[1:], generator=generator)
        timesteps = torch.randint(0, 1000, (BATCH,), generator=generator)
        mixed = schedule.at(timesteps)
        told = torch.zeros(BATCH, dtype=torch.long) if labels is None else labels[chosen]
        output = network(add_noise(z0[chosen], eps, mixed), timesteps, told).sample
        loss = (output - target(prediction, z0[chosen], eps, mixed)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def case() -> Case:
    """A folder of pixels without a record, and images of known classes."""
    images, labels = bars(2048, seed=1)
    network = trained(images.float() / 127.5 - 1, labels)
    config = dict(SCHEDULER.config) | {"_class_name": "DDPMScheduler"}
    images, labels = bars(64, seed=0)
    return Case(
        Path("model"), {}, [], None, network, SCHEDULER, config, None, False, images, labels, num_classes=CLASSES
    )


def changed(change: Callable[[DiTTransformer2DModel], object]) -> Callable[[Case], Case]:
    def inject(case: Case) -> Case:
        network = deepcopy(case.network)
        change(network)
        return replace(case, network=network)

    return inject


def silence(part: str) -> Callable[[DiTTransformer2DModel], None]:
    """Zeros where every block embeds what it is told."""

    def change(network: DiTTransformer2DModel) -> None:
        for name, tensor in network.state_dict().items():
            if part in name:
                tensor.zero_()

    return change


def louder(network: DiTTransformer2DModel) -> None:
    for tensor in network.proj_out_2.state_dict().values():
        tensor *= 1.25


def roll_labels(network: DiTTransformer2DModel) -> None:
    for block in network.transformer_blocks:
        table = block.norm1.emb.class_embedder.embedding_table.weight
        table[:CLASSES] = table[:CLASSES].roll(1, 0)


def one_nan(network: DiTTransformer2DModel) -> None:
    network.proj_out_1.weight[0, 0] = torch.nan


def in_other_heads(case: Case) -> Case:
    return replace(case, network=rebuilt(case.network, num_attention_heads=4, attention_head_dim=8))


def read_as(prediction: str) -> Callable[[Case], Case]:
    return lambda case: replace(case, scheduler=make_scheduler(make_schedule("linear"), prediction))


FAULTS: dict[str, tuple[Callable[[Case], Case], str, str]] = {
    "NaN": (changed(one_nan), "finite", "transformer/: take the weights of an earlier state"),
    "dead time": (
        changed(silence("timestep_embedder")),
        "time_response",
        "transformer/: the blocks' timestep_embedder",
    ),
    "dead labels": (changed(silence("class_embedder")), "label_response", "transformer/: the blocks' class_embedder"),
    "louder": (changed(louder), "output_scale", "transformer/: proj_out_2"),
    "v read as epsilon": (read_as("epsilon"), "prediction_type", "v_prediction"),
}


def test_a_healthy_transformer_is_accused_of_nothing(case):
    found = examine(case)
    assert found.causes == []
    assert {verdict.name for verdict in found.verdicts if verdict.status == "ok"} >= {
        *("finite", "time_response", "label_response", "labels_match", "network_config", "output_scale", "learned")
    }


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_a_transformer_is_named_first(case, name):
    inject, check, fix = FAULTS[name]
    first = examine(inject(case)).causes[0]
    assert first.name == check
    assert fix in first.fix


def test_labels_that_are_shifted_are_named_by_what_embeds_them(case):
    verdict = run_check(CHECK["labels_match"], changed(roll_labels)(case))
    assert verdict.title == "Labels are shifted: class k answers to label k + 1"
    assert "transformer/: the rows of the blocks' class_embedder" in verdict.fix


def test_heads_that_are_not_those_of_training_are_named(case):
    first = examine(in_other_heads(case)).causes[0]
    assert first.name == "network_config"
    assert '"num_attention_heads": 1, "attention_head_dim": 32' in first.fix


def test_one_that_has_not_taken_a_step_is_untrained_and_not_deaf(case):
    fresh = TransformerConfig(SIDE, 1, CLASSES, width=32, depth=2, patch_size=2).build().eval().requires_grad_(False)
    found = examine(replace(case, network=fresh))
    assert found.causes[0].name == "learned"
    assert {verdict.status for verdict in found.verdicts if verdict.name.endswith("_response")} == {"not run"}


def test_latents_that_were_not_normalised_in_training_are_named():
    checkpoint = read_checkpoint(shipped_checkpoints("lab", "lab-raw-latents"))
    raw, examples = open_case(checkpoint.folder), example_images(checkpoint)
    network = trained(raw.statistics.subset.mean, None, raw.prediction_type, raw.schedule)
    first = examine(replace(raw, network=network, num_classes=0, images=examples.images)).causes[0]
    assert (first.name, first.fix) == ("latent_scale", "train/ldm.py: train again without --no-normalise-latents")
