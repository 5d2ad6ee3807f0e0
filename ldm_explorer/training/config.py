"""The options that every training shares, and what follows from them alone: budget, learning rate, data order."""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ldm_explorer.options import settle_types

OptimizerName = Literal["muon", "adamw"]
Precision = Literal["fp32", "bf16", "fp16"]
WARMUP_SHARE, MAX_WARMUP_STEPS = 0.05, 200
"""The learning rate warms up over this share of the budget, or over so many steps where they are fewer."""
_SEED_STRIDE = 1_000_003
_MAX_SEED = 2**32
"""The strides take a larger one out of the range of torch's seeds."""


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """The options that every training shares. Give at most one budget: steps, epochs or minutes."""

    DEFAULT_MINUTES: ClassVar[float] = 30
    LEARNING_RATES: ClassVar[dict[str, float]] = {"muon": 4e-3, "adamw": 1e-3}

    out: Path | None = None
    """Folder of the run: state while it trains, then the checkpoint. Default: runs/<dataset>/<name>."""
    resume: bool = False
    """Go on from the last saved state, if there is one."""
    max_steps: int | None = None
    max_epochs: float | None = None
    max_minutes: float | None = None
    """Wall-clock minutes from the first step to the last, over all resumes; loading and encoding come before them, the
    last validation and the checkpoint after. The budget where none is given. A twentieth of them is timed and makes of
    the rest a number of steps, along which the learning rate falls; where steps get slower there will be fewer."""
    batch_size: int = 128
    """Images of one forward and backward pass, over all processes."""
    gradient_accumulation_steps: int = 1
    """Passes whose gradients are added up before the weights change: one step, of so many times --batch-size images.
    It is the step of a batch as large, up to rounding: what is counted in steps or images (budgets, warm-up, half-life,
    log, states) counts those, and noise and timesteps are drawn for all of them at once. 1 leaves it to Accelerate's
    launcher."""
    optimizer: OptimizerName = "muon"
    """muon learns more from an image (Jordan et al. 2024), and its steps take a tenth more CPU time than AdamW's at the
    default batches and widths. The larger the batch, the less."""
    learning_rate: float | None = None
    """Peak of the learning rate: linear warm-up, then linear decay to 0. Default: one that suits the optimizer."""
    lr_warmup_steps: int | None = None
    """Default: a twentieth of the budget, and no more than 200 steps."""
    weight_decay: float = 0.0
    grad_clip_norm: float = 1.0
    ema_halflife_images: int = 100_000
    """Half-life of the weight average; shorter at the start (Karras et al. 2022, EDM, ramp-up ratio 0.05)."""
    seed: int = 0
    precision: Precision | Literal["auto"] = "auto"
    """auto: what Accelerate's launcher was told (--mixed_precision), else bf16 autocast where a convolution is faster
    in it, else fp32. fp16 scales the loss, and needs a GPU."""
    cuda_graph: bool = True
    """On one GPU, record a step once as a CUDA graph and launch it as a whole, which is what makes small networks fast
    there. Without, the weights are the same up to rounding, and the memory that the graph holds is free."""
    threads: int | None = None
    """CPU threads per process. Default: OMP_NUM_THREADS, else the cores there are, shared by the processes on this
    machine; on one that is busy with something else, 1 can be many times faster."""
    log_every_steps: int = 20
    validate_every_steps: int = 500
    save_every_steps: int = 500
    on_divergence: Literal["stop", "rollback"] = "stop"
    """When the loss or the gradient is not finite or the loss diverges: stop, or go back to the last saved state and on
    with half the learning rate, five times at most."""
    tracker: str | None = None
    """An Accelerate tracker by name (tensorboard, trackio, wandb, ...) beside train_log.jsonl and the film."""
    push_to_hub: str | None = None
    """OWNER/NAME on the Hugging Face Hub: where the finished run's files go. A new repository is private."""
    license: str = "unknown"
    """The licence that the run's card names, by its identifier on the Hub: mit, apache-2.0, cc-by-4.0, ..."""

    def __post_init__(self) -> None:
        settle_types(self)
        budgets = [self.max_steps, self.max_epochs, self.max_minutes]
        if sum(budget is not None for budget in budgets) > 1:
            raise ValueError("give one budget, not several: --max-steps, --max-epochs or --max-minutes")
        if budgets == [None, None, None]:
            object.__setattr__(self, "max_minutes", self.DEFAULT_MINUTES)
        object.__setattr__(self, "learning_rate", self.peak_learning_rate)
        for name in (
            *("max_steps", "max_epochs", "max_minutes", "batch_size", "learning_rate", "grad_clip_norm", "threads"),
            *("log_every_steps", "validate_every_steps", "save_every_steps", "ema_halflife_images"),
            "gradient_accumulation_steps",
        ):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"--{name.replace('_', '-')} is {value}: it has to be above 0")
        for name in ("lr_warmup_steps", "weight_decay"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ValueError(f"--{name.replace('_', '-')} is {value}: it cannot be negative")
        for name in ("learning_rate", "max_epochs", "max_minutes", "weight_decay"):
            if getattr(self, name) == math.inf:
                raise ValueError(f"--{name.replace('_', '-')} is infinite: it has to be a finite number")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.license):
            raise ValueError(f"--license is {self.license!r:.80}: give an identifier of the Hub, as mit or cc-by-4.0")
        if abs(self.seed) > _MAX_SEED:
            raise ValueError(f"--seed is {self.seed}: it has to be from {-_MAX_SEED} to {_MAX_SEED}")

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate that is given, else the one that suits the optimizer."""
        return self.LEARNING_RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def muon_momentum(self) -> float:
        """The share of its earlier steps that Muon keeps in the next one."""
        return 0.95

    @property
    def places(self) -> dict[str, str]:
        """What lies where an option names a place, by the option's name: a run goes on where the same lies."""
        return {}

    @property
    def follows(self) -> dict[str, Any]:
        """What train_config.json says beside the options: what they bring with them from elsewhere."""
        return {}

    @property
    def images_per_step(self) -> int:
        """Over all processes, and over all passes whose gradients are added up."""
        return self.batch_size * self.gradient_accumulation_steps


def budget_in_steps(config: FitConfig, num_examples: int) -> int | None:
    """The budget as a number of steps; None for one in minutes, which `training.clock` makes steps of."""
    if config.max_epochs is not None:
        return max(1, round(config.max_epochs * num_examples / config.images_per_step))
    return config.max_steps


def learning_rate_at(step: int, total_steps: int | None, config: FitConfig, spent: float = 0.0) -> float:
    """Linear warm-up, then linear decay that would reach 0 one step after the last; `step` counts from 0.

    Of a budget in minutes `spent` is the share that is over when the step begins: a twentieth of it goes before the
    number of steps is known, and is what the warm-up takes.
    """
    decay = 1.0 if total_steps is None else max(0.0, 1 - step / total_steps)
    return config.peak_learning_rate * _warmup_at(step + 1, total_steps, config, spent) * decay


def _warmup_at(taken: int, total_steps: int | None, config: FitConfig, spent: float) -> float:
    """The share of the peak that the step is given with which so many are taken, at most 1."""
    if config.lr_warmup_steps is not None:
        return min(1.0, taken / config.lr_warmup_steps) if config.lr_warmup_steps else 1.0
    if config.max_minutes is None and total_steps is not None:
        spent = taken / total_steps
    return min(1.0, max(taken / MAX_WARMUP_STEPS, spent / WARMUP_SHARE))


def batch_indices(step: int, num_examples: int, config: FitConfig) -> Tensor:
    """The examples of a step `(B,)`: consecutive slices of one permutation per epoch."""
    first = step * config.images_per_step
    positions = torch.arange(first, first + config.images_per_step)
    indices = torch.empty_like(positions)
    for epoch in range(first // num_examples, int(positions[-1]) // num_examples + 1):
        inside = positions // num_examples == epoch
        indices[inside] = _order_of(epoch, num_examples, config.seed)[positions[inside] % num_examples]
    return indices


@lru_cache(maxsize=2)  # a step may go on into the next epoch
def _order_of(epoch: int, num_examples: int, seed: int) -> Tensor:
    return torch.randperm(num_examples, generator=torch.Generator().manual_seed(seed * _SEED_STRIDE + epoch))


def step_generator(step: int, seed: int) -> torch.Generator:
    """The randomness of one step, for the whole global batch."""
    return torch.Generator().manual_seed((seed + 1) * _SEED_STRIDE * 1000 + step)
