"""A run whose steps are recorded once and replayed is the run whose steps are taken one by one."""

import gc
import logging
import math
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import TorchDynamoPlugin
from helpers import same_weights
from recorded_steps import Crossing, pretend_gpu
from torch.func import functional_call
from toy_training import CONFIG, Regression, train

from ldm_explorer.latents import LatentCodec, encode_posterior
from ldm_explorer.training import loop
from ldm_explorer.training.averaging import WeightAverage
from ldm_explorer.training.optimizers import make_optimizer
from ldm_explorer.training.step_graph import WARMUP_STEPS, RecordedStep, is_recorded
from ldm_explorer.training.tasks.autoencoder import AutoencoderTask, VAETrainConfig
from ldm_explorer.training.tasks.classifier import ClassifierTask, ClassifierTrainConfig
from ldm_explorer.training.tasks.denoiser import DenoiserTask
from ldm_explorer.training.tasks.denoiser_config import LDMTrainConfig

LAUNCHED = replace(CONFIG, cuda_graph=False)


class Deep(Regression):
    """Of its matrices two are alike, and large enough for Muon; says how often its loss was computed."""

    def __init__(self, bad_batch: int | None = None):
        super().__init__()
        layers = [layer for _ in range(2) for layer in (torch.nn.Linear(16, 16), torch.nn.Tanh())]
        self.model = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), *layers, torch.nn.Linear(16, 1))
        self.losses, self.bad_batch = 0, bad_batch

    def batch(self, indices, generator):
        batch = super().batch(indices, generator)
        if self.batches == self.bad_batch:
            batch["x"] = batch["x"] * math.nan
        return batch

    def loss(self, model, batch):
        self.losses += 1
        return super().loss(model, batch)


class Waiting(Deep):
    """Reads its loss at every step."""

    def loss(self, model, batch):
        losses = super().loss(model, batch)
        assert losses["loss"].detach().item() >= 0
        return losses


@pytest.fixture
def gpu(monkeypatch):
    pretend_gpu(monkeypatch)


def close(one, other) -> bool:
    """Whether two runs differ by no more than the learning rate's rounding, which is in fp32 on a GPU."""
    return one.keys() == other.keys() and all(torch.allclose(one[name], other[name], atol=2e-5) for name in one)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "muon", "weight_decay": 0.1},
        {"optimizer": "adamw"},
        {"gradient_accumulation_steps": 2, "log_every_steps": 3},
    ],
)
def test_a_recorded_run_is_the_run_that_is_launched_step_by_step(accelerator, tmp_path, monkeypatch, options):
    task = Deep()
    _, plain, plain_averaged = train(Deep(), replace(CONFIG, **options), accelerator, tmp_path / "plain")
    pretend_gpu(monkeypatch)
    steps, recorded, averaged = train(task, replace(CONFIG, **options), accelerator, tmp_path / "recorded")
    expected, launched, launched_averaged = train(Deep(), replace(LAUNCHED, **options), accelerator, tmp_path / "whole")
    assert task.losses == (WARMUP_STEPS + 1) * options.get("gradient_accumulation_steps", 1)
    assert same_weights(recorded, launched)
    assert same_weights(averaged, launched_averaged)
    assert not same_weights(recorded, averaged)
    assert close(recorded, plain)
    assert close(averaged, plain_averaged)
    records, others = ([step.record for step in run if step.record] for run in (steps, expected))
    assert [record | {"cpu_seconds": 0} for record in records] == [record | {"cpu_seconds": 0} for record in others]


@pytest.mark.parametrize(("first", "then"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("stop_after", [2, 9])
@pytest.mark.usefixtures("gpu")
def test_a_recorded_run_goes_on_launched_and_the_other_way_round_bit_for_bit(
    accelerator, tmp_path, first, then, stop_after
):
    options = {"optimizer": "muon", "weight_decay": 0.1}
    _, whole, whole_averaged = train(Deep(), replace(LAUNCHED, **options), accelerator, tmp_path / "whole")
    config = replace(CONFIG, cuda_graph=first, **options)
    train(Deep(), config, accelerator, tmp_path / "parts", stop_after=stop_after)
    config = replace(config, cuda_graph=then, resume=True)
    _, weights, averaged = train(Deep(), config, accelerator, tmp_path / "parts")
    assert same_weights(weights, whole)
    assert same_weights(averaged, whole_averaged)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_run_of_a_gpu_goes_on_on_a_cpu_and_the_other_way_round(accelerator, tmp_path, monkeypatch, optimizer):
    config = replace(CONFIG, optimizer=optimizer)
    _, whole, _ = train(Deep(), config, accelerator, tmp_path / "whole")
    for gpu_first in (True, False):
        folder = tmp_path / f"gpu first {gpu_first}"
        for on_gpu in (gpu_first, not gpu_first):
            with monkeypatch.context() as patch:
                if on_gpu:
                    pretend_gpu(patch)
                resume, stop_after = (False, 9) if on_gpu == gpu_first else (True, None)
                _, weights, _ = train(
                    Deep(), replace(config, resume=resume), accelerator, folder, stop_after=stop_after
                )
        assert close(weights, whole)


@pytest.mark.usefixtures("gpu")
def test_a_recorded_run_that_went_back_is_recorded_anew(accelerator, tmp_path):
    """The optimizer's state lies elsewhere then, and a graph would go on with what it was recorded with."""
    options = {"save_every_steps": 4, "on_divergence": "rollback"}
    steps, launched, _ = train(Deep(bad_batch=11), replace(LAUNCHED, **options), accelerator, tmp_path / "launched")
    task = Deep(bad_batch=11)
    again, recorded, _ = train(task, replace(CONFIG, **options), accelerator, tmp_path / "recorded")
    assert [step.notice for step in again] == [step.notice for step in steps]
    assert "back to step 8" in next(step.notice for step in again if step.notice)
    assert task.losses == 2 * (WARMUP_STEPS + 1)
    assert same_weights(recorded, launched)


@pytest.mark.usefixtures("gpu")
def test_a_step_that_waits_for_the_gpu_is_not_recorded_and_it_is_said(accelerator, tmp_path, caplog):
    task = Waiting()
    with caplog.at_level(logging.WARNING):
        _, weights, _ = train(task, CONFIG, accelerator, tmp_path / "waiting")
    assert task.losses == CONFIG.max_steps
    assert [record.getMessage() for record in caplog.records] == [
        "the steps of this training are not recorded as a CUDA graph, and may be slower for it: they wait for the GPU "
        "(aten::_local_scalar_dense)"
    ]
    _, launched, _ = train(Deep(), LAUNCHED, accelerator, tmp_path / "launched")
    assert same_weights(weights, launched)


class Unrecordable(Deep):
    """Breaks off while it is recorded, when half of the gradients are there."""

    def loss(self, model, batch):
        losses = super().loss(model, batch)
        if self.losses == WARMUP_STEPS + 1:
            model[2].weight.register_hook(self.break_off)
        return losses

    def break_off(self, _gradient):
        if self.losses == WARMUP_STEPS + 1:
            raise RuntimeError("operation not permitted when stream is capturing\nmore of it")


@pytest.mark.usefixtures("gpu")
def test_a_recording_that_breaks_off_is_said_and_changes_nothing(accelerator, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        _, weights, _ = train(Unrecordable(), CONFIG, accelerator, tmp_path / "broken")
    assert caplog.records[0].getMessage().endswith("slower for it: operation not permitted when stream is capturing")
    _, launched, _ = train(Deep(), LAUNCHED, accelerator, tmp_path / "launched")
    assert same_weights(weights, launched)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("stop_after", [None, 9])
def test_a_run_that_is_over_lets_its_graph_go(accelerator, tmp_path, monkeypatch, stop_after):
    """At once: the next training of the process may need the memory."""
    made = []

    def noted(compute) -> RecordedStep:
        step = RecordedStep(compute)
        made.append(weakref.ref(step))
        return step

    monkeypatch.setattr(loop, "RecordedStep", noted)
    gc.disable()
    try:
        train(Deep(), CONFIG, accelerator, tmp_path, stop_after=stop_after)
        assert made[0]() is None
    finally:
        gc.enable()


ON_ONE_GPU = {"device": torch.device("cuda"), "num_processes": 1, "scaler": None}


@pytest.mark.parametrize(
    ("change", "compiler", "recorded"),
    [
        ({}, {}, True),
        ({}, {"dynamo_backend": "inductor"}, True),
        ({}, {"dynamo_backend": "inductor", "dynamo_mode": "reduce-overhead"}, False),
        ({}, {"dynamo_backend": "cudagraphs"}, False),
        ({"device": torch.device("cpu")}, {}, False),
        ({"num_processes": 2}, {}, False),
        ({"scaler": "of fp16"}, {}, False),
    ],
)
def test_steps_are_recorded_on_one_gpu_where_nothing_speaks_against_it(monkeypatch, change, compiler, recorded):
    for name, value in compiler.items():
        monkeypatch.setenv(f"ACCELERATE_{name.upper()}", value)
    state = SimpleNamespace(dynamo_plugin=TorchDynamoPlugin())
    accelerator = SimpleNamespace(**ON_ONE_GPU | change, state=state)
    assert is_recorded(CONFIG, accelerator) == recorded
    assert not is_recorded(LAUNCHED, accelerator)


@pytest.fixture(params=["autoencoder", "unet", "transformer", "classifier"])
def task(request, tiny_vae, shapes, other_shapes):
    common = {"max_steps": 6, "precision": "fp32", "threads": 1, "batch_size": 8}
    if request.param == "autoencoder":
        return AutoencoderTask(VAETrainConfig(widths=(16,), **common), shapes, other_shapes)
    if request.param == "classifier":
        return ClassifierTask(ClassifierTrainConfig(widths=(8, 8), **common), shapes, other_shapes, other_shapes)
    own = {
        "unet": {"widths": (16, 32), "layers_per_block": 1, "timesteps": "importance", "min_snr_gamma": 5.0},
        "transformer": {"width": 32, "depth": 2, "schedule": "flow"},
    }[request.param]
    posterior = encode_posterior(LatentCodec(tiny_vae), shapes.images)
    config = LDMTrainConfig(network=request.param, **own, **common)
    return DenoiserTask(config, tiny_vae, posterior, shapes.labels, posterior, shapes.labels)


@pytest.mark.usefixtures("gpu")
def test_the_steps_of_our_networks_can_be_recorded(accelerator, tmp_path, task, caplog):
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    _, recorded, averaged = train(task, task.config, accelerator, tmp_path / "recorded")
    assert not caplog.records
    task.model.load_state_dict(before)
    _, launched, launched_averaged = train(
        task, replace(task.config, cuda_graph=False), accelerator, tmp_path / "one by one"
    )
    assert same_weights(recorded, launched)
    assert same_weights(averaged, launched_averaged)


def test_a_loss_fetches_nothing_from_the_cpu(task):
    """On tensors that only pretend to lie on a GPU; at the first step tables may be copied there."""
    batch = task.batch(torch.arange(8), torch.Generator().manual_seed(0))
    with Crossing() as crossing:
        named = [*task.model.named_parameters(), *task.model.named_buffers()]
        weights = {name: tensor.to("cuda") for name, tensor in named}
        there = {name: value.to("cuda") for name, value in batch.items()}

        def model(*args, **kwargs):
            return functional_call(task.model, weights, args, kwargs)

        task.loss(model, there)
        assert crossing.operations
        crossing.operations.clear()
        assert task.loss(model, there)["loss"].device.type == "cuda"
    assert crossing.operations == []


def test_muon_and_the_average_read_no_number_from_the_device_of_the_weights():
    """On a device that has none: reading one there is an error."""
    model = torch.nn.Sequential(torch.nn.Linear(9, 16), torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)).to("meta")
    average = WeightAverage(model, halflife_images=100, images_per_step=8)
    taken = make_optimizer(CONFIG, model, capturable=True)
    for _ in range(3):
        model(torch.ones(4, 9, device="meta")).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        taken.step()
        average.update_parameters(model)
    assert int(average.n_averaged) == 3
