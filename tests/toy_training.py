"""A training that takes milliseconds, for tests of the loop and of what surrounds it."""

import json
import signal
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from ldm_explorer.training import FitConfig, fit
from ldm_explorer.training.drive import watch
from ldm_explorer.training.run import Run
from ldm_explorer.training.run_state import latest_state


class Regression:
    """y = 3 x - 1 from noisy examples; the noise of a batch comes from its generator."""

    num_examples = 100

    def __init__(self, interrupt_at: int | None = None, frame: torch.Tensor | None = None):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        self.inputs = torch.linspace(-1, 1, self.num_examples)[:, None]
        self.batches = 0
        self.interrupt_at, self.frame = interrupt_at, frame

    def batch(self, indices, generator):
        self.batches += 1
        if self.batches == self.interrupt_at:
            signal.raise_signal(signal.SIGINT)
        noise = torch.randn(len(indices), 1, generator=generator)
        return {"x": self.inputs[indices], "y": 3 * self.inputs[indices] - 1 + 0.01 * noise}

    def loss(self, model, batch):
        error = model(batch["x"]) - batch["y"]
        return {"loss": error.square().mean(), "bias": error.mean()}

    def validate(self, model):
        return {"loss": float((model(self.inputs) - 3 * self.inputs + 1).square().mean())}

    def sample(self, model):  # noqa: ARG002
        return self.frame


CONFIG = FitConfig(
    max_steps=20,
    batch_size=8,
    learning_rate=0.02,
    lr_warmup_steps=5,
    ema_halflife_images=40,
    log_every_steps=1,
    validate_every_steps=5,
    save_every_steps=1000,
    precision="fp32",
    threads=1,
)


def train(task, config, accelerator, run_dir, stop_after=None):
    """Every step, the raw weights and the averaged ones; closed early after `stop_after` steps."""
    run_dir.mkdir(parents=True, exist_ok=True)
    generator, steps = fit(task, config, accelerator, run_dir), []
    for step, model in generator:
        steps.append(step)
        averaged = model.state_dict()
        if step.step == stop_after:
            generator.close()
    weights = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    return steps, weights, averaged


def run(task, config, accelerator, folder) -> nn.Module | None:
    """The averaged model of a training that is driven to its end, None where Ctrl-C stopped it."""
    one = Run(SimpleNamespace(config=config), accelerator, folder)
    one.task = task
    return one.averaged if watch(one) else None


def progress(run_dir: Path) -> dict:
    return json.loads((latest_state(run_dir) / "progress.json").read_text())


def log_lines(run_dir: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run_dir / "train_log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "cpu_seconds"} for line in lines]
