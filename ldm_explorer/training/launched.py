"""The processes of `accelerate launch` or `torchrun`, as those who measure together."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor
from tqdm import tqdm

from ldm_explorer.latents import BATCH_IMAGES
from ldm_explorer.training.processes import process_state, use_cores

Value = TypeVar("Value")


class LaunchedProcesses:
    """The processes that `accelerate launch` or `torchrun` started, one where none did, as those who measure together.

    Each computes with `threads`, by default its share of the cores.
    """

    def __init__(self, threads: int | None = None, state: PartialState | None = None):
        self.state = state or process_state()
        use_cores(threads)

    @property
    def device(self) -> torch.device:
        return self.state.device

    @property
    def is_main_process(self) -> bool:
        return self.state.is_main_process

    def local_main_process_first(self) -> AbstractContextManager:
        return self.state.local_main_process_first()

    def from_main(self, value: Value) -> Value:
        return broadcast_object_list([value])[0]

    def batched(self, function: Callable[[Tensor], Tensor], inputs: Tensor, description: str = "") -> Tensor:
        """Share the batches out, with a progress bar; every process gets the whole result.

        The batches are the same whatever the number of processes, and so is what comes out.
        """
        batches = inputs.split(BATCH_IMAGES)
        mine = batches[self.state.process_index :: self.state.num_processes]
        quiet = not self.is_main_process or not sys.stderr.isatty()
        bar = tqdm(mine, description, leave=False, disable=quiet, dynamic_ncols=True)
        results = [function(batch) for batch in bar]
        if self.state.num_processes > 1:
            shares = gather_object([results])
            results = [shares[index % len(shares)][index // len(shares)] for index in range(len(batches))]
        return torch.cat(results)
