"""Starting the training commands as they are typed, and reading what they leave."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

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
