"""The processes that train together: where each computes, in which precision and with how many threads."""

import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import GradientAccumulationPlugin, broadcast_object_list, parse_flag_from_env
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ldm_explorer.malloc import M_MMAP_MAX, M_TRIM_THRESHOLD, set_malloc
from ldm_explorer.training.config import FitConfig
from ldm_explorer.training.launcher import check_compiler, check_launcher
from ldm_explorer.training.run_state import latest_state, read_progress
from ldm_explorer.training.trackers import check_tracker

BF16_HAS_TO_SAVE = 0.2
"""Share of a convolution's time that bf16 has to save to be chosen: casting costs something as well."""

_MIXED_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
"""Accelerate's names."""


def process_state() -> PartialState:
    """This process among the others: on the CPU where that is asked for or all there is, else on its accelerator."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def make_accelerator(config: FitConfig, run_dir: Path) -> Accelerator:
    """An Accelerator with the precision resolved and, on a CPU, all cores in use (`accelerate launch` leaves one).

    A run that goes on keeps the precision that it began with. Raises `ValueError` as `check_launcher`, `check_compiler`
    and `check_tracker` do, for a global batch that cannot be shared out evenly, a precision other than an earlier
    training's, and fp16 on a CPU.
    """
    check_launcher()
    if config.tracker is not None:
        check_tracker(config.tracker)
    device = process_state().device
    check_compiler(device)
    if device.type == "cpu":
        use_cores(config.threads)
        keep_freed_memory()
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=_MIXED_PRECISION[_precision(config, run_dir, device)],
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # the loop adds up and divides by itself
        log_with=config.tracker,
        project_dir=str(run_dir),
    )
    if config.batch_size % accelerator.num_processes:
        raise ValueError(f"batch size {config.batch_size} does not divide over {accelerator.num_processes} processes")
    return accelerator


def on_gpu(accelerator: Accelerator) -> bool:
    return accelerator.device.type == "cuda"


def attention_kernels(accelerator: Accelerator) -> AbstractContextManager:
    """In which attention computes as it is fast: on a CPU in bf16 the fused kernel takes six times as long as what it
    fuses (64 images of 4x4 positions, 3 heads of 32), and took a sixth of a UNet's step."""
    slow = accelerator.device.type == "cpu" and precision_of(accelerator) == "bf16"
    return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device; the CPU goes on before it is there, as it can from pinned memory alone."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def use_cores(threads: int | None) -> None:
    """Compute with so many threads; by default those of OMP_NUM_THREADS, or this process's share of the cores where a
    launcher runs it, for launchers set that to one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    told = os.environ.get("OMP_NUM_THREADS", "")
    launched = any(name in os.environ for name in ("LOCAL_WORLD_SIZE", "ACCELERATE_MIXED_PRECISION"))
    by_default = int(told) if told.isdecimal() and not launched else cores // local_processes
    torch.set_num_threads(threads or max(1, by_default))


def keep_freed_memory() -> None:
    """Tell glibc's malloc to use freed blocks again in place of giving them back and mapping zeroed pages anew.

    It does that to every block above 32 MB: autoencoders of 64x64 images, 64 at a time, then train at .6 of the rate.
    """
    set_malloc(M_MMAP_MAX, 0)
    set_malloc(M_TRIM_THRESHOLD, -1)


def _precision(config: FitConfig, run_dir: Path, device: torch.device) -> str:
    earlier = precision_of(AcceleratorState()) if is_initialized() else None  # Accelerate takes one for each process
    if config.precision == "fp16" and device.type == "cpu":
        raise ValueError("fp16 is for GPUs, and this training computes on the CPU: choose --precision bf16 or fp32")
    if config.precision != "auto":
        if earlier not in (None, config.precision):
            raise ValueError(
                f"--precision is {config.precision}, and an earlier training of this process computed in {earlier}: "
                "choose the same one or auto, or begin another process"
            )
        return config.precision
    state = latest_state(run_dir) if config.resume else None
    precision = read_progress(state).precision if state else None
    return broadcast_object_list([precision or earlier or ("bf16" if bf16_is_faster(device) else "fp32")])[0]


def precision_of(accelerator: Accelerator | AcceleratorState) -> str:
    """ "fp32", "bf16" or "fp16"."""
    return "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision


def bf16_is_faster(device: torch.device) -> bool:
    """Whether bf16 is worth computing in: on a CPU a convolution is timed, for having the instructions says too little.

    On two processors with AVX512-BF16 it took .55 and 1.8 times as long as fp32 did.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    return _convolution_seconds(torch.bfloat16) < (1 - BF16_HAS_TO_SAVE) * _convolution_seconds(torch.float32)


def _convolution_seconds(dtype: torch.dtype) -> float:
    """The least of five: 64 channels, 16x16, forward and backward."""
    convolution = torch.nn.Conv2d(64, 64, 3, padding=1).to(dtype)
    images = torch.zeros(32, 64, 16, 16, dtype=dtype, requires_grad=True)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        convolution(images).sum().backward()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
