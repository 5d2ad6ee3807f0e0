"""CUDA graphs where there is no GPU: the operations of a step are recorded, and replayed with what they were given.

As with a graph, nothing of Python runs again, a number that was read while it was recorded stays, results are written
where they were written, and what waits for the GPU cannot be recorded.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ldm_explorer.training import loop, step_graph

WAITING = {"aten::_local_scalar_dense", "aten::lift_fresh", "aten::nonzero", "aten::_unique2", "aten::equal"}
"""A number that is read, one that is made in Python, and shapes that depend on values."""


class Noting(TorchDispatchMode):
    """Notes what would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation.name() in WAITING:
            self.waits.append(operation.name())
        return operation(*args, **(kwargs or {}))


class Recording(TorchDispatchMode):
    """Records operations; what they change is put back in the end, for a recording computes nothing."""

    def __init__(self):
        super().__init__()
        self.operations, self.made, self.changed = [], set(), {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operation.name() in WAITING:
            raise RuntimeError(f"{operation.name()} is not permitted when stream is capturing")
        for argument, value in zip(operation._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._keep(value)
        results = operation(*args, **kwargs)
        self.made |= {tensor.untyped_storage().data_ptr() for tensor in _tensors(results)} - self._storages(args)
        self.operations.append((operation, args, kwargs, results))
        return results

    def _keep(self, changed) -> None:
        for tensor in _tensors(changed):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.made:
                self.changed.setdefault(storage.data_ptr(), (storage, storage.clone()))

    @staticmethod
    def _storages(values) -> set[int]:
        return {tensor.untyped_storage().data_ptr() for tensor in _tensors(values)}

    def put_back(self) -> None:
        for storage, before in self.changed.values():
            storage.copy_(before)

    @torch.no_grad()
    def replay(self) -> None:
        for operation, args, kwargs, results in self.operations:
            for there, now in zip(_tensors(results), _tensors(operation(*args, **kwargs)), strict=True):
                if there.data_ptr() != now.data_ptr():
                    there.copy_(now)


class Crossing(FakeTensorMode):
    """Tensors without values, on any device whether there is one or not; notes what goes from the CPU to another."""

    def __init__(self):
        super().__init__(allow_non_fake_inputs=True)
        self.operations = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        results = super().__torch_dispatch__(operation, types, args, kwargs)
        from_cpu = any(tensor.device.type == "cpu" for tensor in _tensors(args))
        if from_cpu and any(tensor.device.type != "cpu" for tensor in _tensors(results)):
            self.operations.append(operation.name())
        return results


def _tensors(values) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def record(compute, parts):
    recording = Recording()
    with recording:
        metrics = compute(parts)
    recording.put_back()
    return recording.replay, metrics


@contextmanager
def waiting() -> Iterator[list[str]]:
    with Noting() as noting:
        yield noting.waits


def pretend_gpu(monkeypatch) -> None:
    """Trainings take the CPU for a GPU of which steps are recorded."""
    for module in (loop, step_graph):
        monkeypatch.setattr(module, "on_gpu", lambda _: True)
    monkeypatch.setattr(step_graph, "beside", nullcontext)
    monkeypatch.setattr(step_graph, "waiting", waiting)
    monkeypatch.setattr(step_graph, "record", record)
