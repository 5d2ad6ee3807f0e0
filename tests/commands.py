"""Starting the training commands, as they are typed or without their imports, and reading what they leave."""

import importlib.util
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from multiprocessing.context import BaseContext
from pathlib import Path
from types import ModuleType

import torch

REPO = Path(__file__).resolve().parents[1]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]
CACHE = tempfile.TemporaryDirectory() if multiprocessing.parent_process() is None else None
"""What trainings keep for others is gone with the tests: the next ones encode again. Forked processes have their
parent's."""
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
if CACHE:
    ENVIRONMENT["XDG_CACHE_HOME"] = CACHE.name
GIVE_UP_SECONDS = 900


@cache
def forks() -> BaseContext:
    """Where processes are forked from: one that has imported what every command does, which takes 6 s."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "torch.distributed.run",
            "ldm_explorer.evaluation.evaluator",
            "ldm_explorer.training.drive",
            "ldm_explorer.training.export_state",
            "ldm_explorer.training.latent_statistics",
            "ldm_explorer.training.tasks.autoencoder",
            "ldm_explorer.training.tasks.classifier",
            "ldm_explorer.training.tasks.denoiser",
        ]
    )
    return context


def start(*command: str) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        cwd=REPO,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


class Forked:
    """A script as `python train/... --option` runs it, in a process that is forked; to be used as a `Popen`.

    `before` is called in that process, before the script.
    """

    def __init__(self, *command: str, before: Callable[[], None] | None = None):
        self._said = [tempfile.NamedTemporaryFile("r") for _ in range(2)]  # noqa: SIM115
        places = [said.name for said in self._said]
        self._process = forks().Process(target=_become, args=(command, ENVIRONMENT, places, before))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it printed, on both streams."""
        self._process.join(timeout)
        return self._said[0].read(), self._said[1].read()


def _become(
    command: tuple[str, ...], environment: dict[str, str], places: list[str], before: Callable[[], None] | None
) -> None:
    """Make this process one that was started with a command in the root of the repository."""
    os.setsid()
    os.chdir(REPO)
    os.environ.update(environment)
    torch.set_num_threads(1)
    for stream, place in enumerate(places, start=1):
        os.dup2(os.open(place, os.O_WRONLY | os.O_APPEND), stream)
    sys.argv = list(command)
    sys.modules["_checkout"] = load_script("_checkout")  # the scripts import it from their own folder
    if before is not None:
        before()
    run = runpy.run_path if command[0].endswith(".py") else runpy.run_module
    run(command[0], run_name="__main__")


def finish(process: subprocess.Popen | Forked) -> str:
    """What the process and its children printed."""
    try:
        return "".join(said for said in process.communicate(timeout=GIVE_UP_SECONDS) if said)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def run_command(*command: str) -> str:
    return _output(start(*command))


def run_forked(*command: str, before: Callable[[], None] | None = None) -> str:
    return _output(Forked(*command, before=before))


def _output(process: subprocess.Popen | Forked) -> str:
    output = finish(process)
    assert process.returncode == 0, output
    return output


def logged_steps(run_dir: Path) -> list[int]:
    log = run_dir / "train_log.jsonl"
    return [json.loads(line)["step"] for line in log.read_text().splitlines()] if log.exists() else []


def load_script(name: str) -> ModuleType:
    """The module of train/<name>.py, which is no package."""
    spec = importlib.util.spec_from_file_location(f"train_{name}", REPO / "train" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
