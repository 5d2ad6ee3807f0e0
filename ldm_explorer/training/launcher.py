"""What `accelerate launch` was told, by options, a config file or ACCELERATE_* variables: honoured or refused.

The launcher hands most of its options on in the environment. Those that it keeps to itself are read from its command
line. docs/training.md has the table.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import PurePath
from typing import Any

import torch
from accelerate.utils import DynamoBackend, TorchDynamoPlugin, parse_flag_from_env

from ldm_explorer.files import first_line
from ldm_explorer.training.config import FitConfig

PREFIX = "ACCELERATE_"
SHARDING = {
    "USE_DEEPSPEED": "DeepSpeed",
    "USE_FSDP": "FSDP",
    "USE_MEGATRON_LM": "Megatron-LM",
    "USE_PARALLELISM_CONFIG": "a parallelism config",
}
PRECISIONS = {"no": "fp32", "bf16": "bf16", "fp16": "fp16"}
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""What says that a process is one of several, as Accelerate looks for it."""

_COMMANDS = {"accelerate", "accelerate-launch", "accelerate.commands.launch", "accelerate.commands.accelerate_cli"}
_PARENTS, _WORDS = 3, 6
"""How far up and how far in its command is looked for: a Windows environment's Python has a process of its own."""


def check_launcher() -> None:
    """Raise `ValueError` for what no training here can be told, before any work is done."""
    for variable, what in SHARDING.items():
        if parse_flag_from_env(PREFIX + variable):
            raise ValueError(
                f"accelerate launch asks for {what} ({PREFIX}{variable}), which divides a network over devices: every "
                "process here trains a whole one, so leave that out"
            )
    if _told("MIXED_PRECISION") == "fp8":
        raise ValueError("accelerate launch asks for fp8, in which nothing here computes: give no, fp16 or bf16")
    if _told("DOWNCAST_BF16") or _typed().get("downcast_bf16"):
        raise ValueError("accelerate launch asks for --downcast_bf16, which is for TPUs: nothing here trains on one")
    launched = PREFIX + "MIXED_PRECISION" in os.environ  # it always is then
    if launched and "MASTER_ADDR" in os.environ and not any(name in os.environ for name in RANKS):
        raise ValueError(
            "several processes are asked for (MASTER_ADDR is set), and accelerate launch has started one, as it does "
            "on a CPU: start them with torchrun --nproc_per_node N, or ask for one"
        )


def told_options(config: FitConfig) -> dict[str, Any]:
    """Options that the launcher was told where the training's own leave them open, by their names.

    Raises `ValueError` where it was told something else than the training, or what is no such value.
    """
    told: dict[str, Any] = {}
    passes = _number("GRADIENT_ACCUMULATION_STEPS", int)
    if passes not in (None, config.gradient_accumulation_steps):
        if config.gradient_accumulation_steps != 1:
            raise _differs("--gradient-accumulation-steps", config.gradient_accumulation_steps, passes)
        told["gradient_accumulation_steps"] = passes
    clipping = _number("GRADIENT_CLIPPING", float)
    if clipping not in (None, config.grad_clip_norm):
        raise _differs("--grad-clip-norm", config.grad_clip_norm, clipping)
    if (precision := _precision()) not in (None, config.precision):
        if config.precision != "auto":
            raise _differs("--precision", config.precision, precision)
        told["precision"] = precision
    threads = _typed().get("num_cpu_threads_per_process")
    if threads is not None and config.threads is None:
        told["threads"] = threads
    return told


def _precision() -> str | None:
    """None for the "no" that the launcher passes on when it was told nothing."""
    given = _told("MIXED_PRECISION")
    if given is not None and given not in PRECISIONS:
        raise ValueError(f"{PREFIX}MIXED_PRECISION is {given}: give one of {', '.join(PRECISIONS)}")
    silent = given == "no" and _typed().get("mixed_precision") is None
    return None if given is None or silent else PRECISIONS[given]


def check_compiler(device: torch.device) -> None:
    """Raise `ValueError` where networks are to be compiled by TorchDynamo and cannot be: a tiny one is."""
    try:
        plugin = TorchDynamoPlugin()
    except ValueError as error:
        known = ", ".join(backend.value.lower() for backend in DynamoBackend)
        raise ValueError(f"{first_line(error)} (ACCELERATE_DYNAMO_*): as its backend give one of {known}") from error
    if plugin.backend == DynamoBackend.NO:
        return
    try:
        compiled = torch.compile(torch.nn.Linear(2, 2, device=device), **plugin.to_kwargs())
        compiled(torch.ones(2, 2, device=device)).sum().backward()
    except Exception as error:  # whatever a backend raises
        raise ValueError(
            f"--dynamo_backend {plugin.backend.value.lower()} cannot compile the training of a network here "
            f"({type(error).__name__}: {first_line(error)}): leave it out, or give another such as inductor"
        ) from error


def _differs(option: str, ours: object, told: object) -> ValueError:
    return ValueError(f"{option} is {ours}, and accelerate launch was told {told}: give one of them, or both alike")


def _number(name: str, kind: Callable[[str], Any]) -> Any:
    """A number that the launcher was told: it hands it on to DeepSpeed alone."""
    given = _told(name) or _typed().get(name.lower())
    if given in (None, "auto"):
        return None
    try:
        value = kind(given)
    except ValueError:
        value = 0
    if not value > 0:
        raise ValueError(f"{PREFIX}{name} is {given}: give a number above 0")
    return value


def _told(name: str) -> str | None:
    return (os.environ.get(PREFIX + name) or "").lower() or None


@cache
def _typed() -> dict[str, Any]:
    """The options behind `accelerate launch` on the command line that started this process, {} where none did."""
    import psutil

    try:
        commands = [process.cmdline() for process in psutil.Process().parents()[:_PARENTS]]
    except psutil.Error:
        return {}
    for words in commands:
        names = [PurePath(word).stem if "/" in word or "\\" in word else word.removesuffix(".exe") for word in words]
        if found := next((place for place, name in enumerate(names[:_WORDS], start=1) if name in _COMMANDS), None):
            from accelerate.commands.launch import launch_command_parser

            options = words[found:][words[found : found + 1] == ["launch"] :]
            return vars(launch_command_parser().parse_known_args(options)[0])
    return {}
