"""A step's work for a GPU as one CUDA graph, recorded once and launched as a whole.

The kernels of a small network are over sooner than the next can be launched one by one.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend
from torch import Tensor

from ldm_explorer.files import first_line
from ldm_explorer.training.config import FitConfig
from ldm_explorer.training.processes import on_gpu

Parts = list[dict[str, Tensor]]
WARMUP_STEPS = 3
"""As many as PyTorch's notes on CUDA graphs take: libraries allocate and compilers compile in them."""
NOT_RECORDED = "the steps of this training are not recorded as a CUDA graph, and may be slower for it: %s"
_log = logging.getLogger(__name__)


class Compute(Protocol):
    """The work of a step, all of it on one device: what goes in are the parts of its batch, what comes out its metrics.

    It allocates nothing that lasts, once it was called, and reads no number that changes but from tensors.
    """

    def __call__(self, parts: Parts, /) -> dict[str, Tensor]: ...


def is_recorded(config: FitConfig, accelerator: Accelerator) -> bool:
    """Whether steps are to be recorded: on one GPU, unless the options say otherwise.

    Several GPUs wait for each other, fp16 for whether a step overflowed, and compilers that record graphs of their own
    are left to it.
    """
    compiler = accelerator.state.dynamo_plugin
    recorded = compiler.backend == DynamoBackend.CUDAGRAPHS or compiler.mode in ("reduce-overhead", "max-autotune")
    alone = on_gpu(accelerator) and accelerator.num_processes == 1 and accelerator.scaler is None
    return config.cuda_graph and alone and (compiler.backend == DynamoBackend.NO or not recorded)


class RecordedStep:
    """Computes as the function that it is given, from the fourth call on by a graph of it.

    The first calls are steps like any other, launched kernel by kernel. A graph reads and writes the memory that it was
    recorded with: batches are copied there, and weights, optimizer state and learning rate have to stay where they are.
    """

    def __init__(self, compute: Compute):
        self.compute, self.calls = compute, 0
        self.waits: list[str] = []
        self.replay: Callable[[], None] | None = None

    def __call__(self, parts: Parts) -> dict[str, Tensor]:
        self.calls += 1
        if self.calls <= WARMUP_STEPS:
            return self._warm_up(parts)
        if self.calls == WARMUP_STEPS + 1 and not self.waits:
            self._record(parts)
        if self.replay is None:
            return self.compute(parts)
        for part, values in zip(self.parts, parts, strict=True):
            for name, value in values.items():
                part[name].copy_(value)
        self.replay()
        return {name: value.clone() for name, value in self.metrics.items()}

    def _warm_up(self, parts: Parts) -> dict[str, Tensor]:
        with beside(), waiting() as self.waits:
            metrics = self.compute(parts)
        if self.waits and self.calls == WARMUP_STEPS:  # before, something may have been fetched once and for all
            _log.warning(NOT_RECORDED, f"they wait for the GPU ({self.waits[0]})")
        return metrics

    def _record(self, parts: Parts) -> None:
        self.parts = [{name: value.clone() for name, value in part.items()} for part in parts]
        try:
            self.replay, self.metrics = record(self.compute, self.parts)
        except RuntimeError as error:
            _log.warning(NOT_RECORDED, first_line(error))


@contextmanager
def beside() -> Iterator[None]:
    """A stream beside the current one, which waits for it: what is recorded is not to have begun on the default one."""
    current, stream = torch.cuda.current_stream(), _side_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)


@cache
def _side_stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()  # one for all: memory that was freed is kept for its own stream


@contextmanager
def waiting() -> Iterator[list[str]]:
    """Notes where the CPU waits for the GPU, which would break a recording and what comes after it."""
    before, waits = torch.cuda.get_sync_debug_mode(), list[str]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in caught:
        if "called a synchronizing CUDA operation" in str(warning.message):
            waits.append(f"{warning.filename}, line {warning.lineno}")
        elif "prototype feature" not in str(warning.message):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def record(compute: Compute, parts: Parts) -> tuple[Callable[[], None], dict[str, Tensor]]:
    """A graph of a computation, as what launches it and the metrics that it then writes; nothing is computed yet.

    Raises `RuntimeError` for what cannot be recorded.
    """
    graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, stream=_side_stream()):
            metrics = compute(parts)
    finally:
        torch.cuda.set_stream(current)  # one that fails leaves its own behind
    return graph.replay, metrics
