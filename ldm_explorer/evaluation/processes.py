"""Those who measure together: one process, or several that share the work and each get all results."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ldm_explorer.latents import in_batches

CPU = torch.device("cpu")
Value = TypeVar("Value")


class Processes(Protocol):
    """What an evaluation asks of the processes that it runs in."""

    @property
    def device(self) -> torch.device: ...

    @property
    def is_main_process(self) -> bool:
        """Whether this one writes what is kept."""

    def local_main_process_first(self) -> AbstractContextManager:
        """Within it, one process of each machine goes before the others."""

    def from_main(self, value: Value) -> Value:
        """What the main process gave, in every one."""

    def batched(self, function: Callable[[Tensor], Tensor], inputs: Tensor, description: str = "") -> Tensor:
        """A `BatchMap` that shares the batches out."""


@dataclass(frozen=True)
class OneProcess:
    """A process on its own."""

    device: torch.device = CPU
    is_main_process: bool = True

    def local_main_process_first(self) -> AbstractContextManager:
        return nullcontext()

    def from_main(self, value: Value) -> Value:
        return value

    def batched(self, function: Callable[[Tensor], Tensor], inputs: Tensor, description: str = "") -> Tensor:
        return in_batches(function, inputs, description)
