"""Runs that are compiled or scale their loss leave states and weights as any other run does."""

from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState
from helpers import same_weights
from safetensors.torch import load_file
from toy_training import CONFIG, Regression, progress, train

from ldm_explorer.training import TrainingFailed, latest_state, make_accelerator

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


class Blocks(Regression):
    """With repeated blocks, which can be compiled by themselves."""

    def __init__(self):
        super().__init__()
        blocks = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(2))
        self.model = torch.nn.Sequential(torch.nn.Linear(1, 8), Chain(blocks), torch.nn.Linear(8, 1))


class Chain(torch.nn.Module):
    def __init__(self, blocks: torch.nn.ModuleList):
        super().__init__()
        self.blocks = blocks

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x).tanh()
        return x


def run(monkeypatch, folder, compiled: bool, regional: bool, **options):
    """What `train` of the toy returns, in a process that the launcher told to compile or not."""
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "eager" if compiled else "no")
    monkeypatch.setenv("ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION", str(regional))
    stop_after = options.pop("stop_after", None)
    config = replace(CONFIG, **options)
    return train(Blocks(), config, make_accelerator(config, folder), folder, stop_after=stop_after)


@pytest.mark.parametrize("regional", [False, True], ids=["whole", "by blocks"])
def test_a_compiled_run_goes_on_uncompiled_and_the_other_way_round_bit_for_bit(monkeypatch, tmp_path, regional):
    _, whole, whole_averaged = run(monkeypatch, tmp_path / "whole", False, False)
    for first in (True, False):
        folder = tmp_path / f"compiled first {first}"
        run(monkeypatch, folder, first, regional, stop_after=7)
        names = load_file(latest_state(folder) / "state.safetensors").keys()
        assert not [name for name in names if "_orig_mod" in name]
        _, weights, averaged = run(monkeypatch, folder, not first, regional, resume=True)
        assert same_weights(weights, whole)
        assert same_weights(averaged, whole_averaged)


class Overflowing(Regression):
    """Its loss overflows fp16 however little it is scaled."""

    def loss(self, model, batch):
        return {"loss": model(batch["x"] * 1e5).float().square().mean() * 1e-9}


def scaling(tmp_path):
    """An accelerator that computes in fp16 as on a GPU: on a CPU it is 40 times as slow as fp32, and not offered."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(CONFIG, tmp_path)
    accelerator.state._mixed_precision, accelerator.native_amp = "fp16", True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30, growth_interval=4)
    return accelerator


def test_the_scale_of_the_loss_is_part_of_a_state(tmp_path):
    """The first steps overflow and are skipped, which is no divergence; a run that goes on equals one that did."""
    config = replace(CONFIG, max_steps=40)
    steps, whole, _ = train(Regression(), config, scaling(tmp_path), tmp_path / "whole")
    skipped = [step.record["skipped"] for step in steps]
    assert skipped[0] == 1
    assert ["grad_norm" in step.record for step in steps] == [share == 0 for share in skipped]
    assert progress(tmp_path / "whole")["precision"] == "fp16"
    for stop_after in (3, 30):
        folder = tmp_path / f"stopped after {stop_after}"
        train(Regression(), config, scaling(tmp_path), folder, stop_after=stop_after)
        resumed = replace(config, resume=True)
        after, weights, _ = train(Regression(), resumed, scaling(tmp_path), folder)
        assert [step.record["skipped"] for step in after] == skipped[stop_after:]
        assert same_weights(weights, whole)


def test_a_loss_that_overflows_at_any_scale_is_told(tmp_path):
    with pytest.raises(TrainingFailed, match=r"gradient norm of step \d+ is .*try --precision fp32"):
        train(Overflowing(), replace(CONFIG, max_steps=60), scaling(tmp_path), tmp_path / "run")
