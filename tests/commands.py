"""Starting the training commands as they are typed, and reading what they leave."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

REPO = Path(__file__).resolve().parents[1]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
GIVE_UP_SECONDS = 900


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


def finish(process: subprocess.Popen) -> str:
    """What the process and its children printed."""
    try:
        return process.communicate(timeout=GIVE_UP_SECONDS)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def run_command(*command: str) -> str:
    process = start(*command)
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
