"""Push a finished run to the Hugging Face Hub: the files that the run wrote, and nothing else."""

import fnmatch
import json
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.files import first_line, read_json
from ldm_explorer.film import FRAMES
from ldm_explorer.network_files import WEIGHTS
from ldm_explorer.networks import NETWORKS
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import (
    CARD_FILE,
    CLASSIFIER,
    CONFIG_FILE,
    METRICS_FILE,
    STATE,
    VAE,
    holds_classifier,
)
from ldm_explorer.training.guard import TrainingFailed
from ldm_explorer.training.run_card import run_card, without_places

OF_ONE_RUN = (*(f"{part}/{Path(WEIGHTS).stem}*" for part in (VAE, *NETWORKS, CLASSIFIER)), FRAMES)
"""Weights and frames: those that an earlier push left would be read with those of this run."""


class PushFailed(TrainingFailed):
    """A run that did not get to the Hub, and lies where it was; the message says how to try again."""


def check_name(name: str) -> None:
    """Raise `ValueError` for what is no name of a repository, or where nobody is signed in to the Hub."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"{name!r:.100} is no name of a repository: give OWNER/NAME ({first_line(error)})") from error
    if "/" not in name:
        raise ValueError(f"{name!r:.100} is no name of a repository: give OWNER/NAME, as in me/{name}")
    if get_token() is None:
        raise ValueError("pushing to the Hub needs its token: sign in with `hf auth login`, or set HF_TOKEN")


def push(folder: Path, name: str) -> str:
    """Upload a run as one commit of the repository `OWNER/NAME`, a private one if it is new; returns its address.

    Options and measures go without where things lie on this machine, and the card with all measures that there are by
    now. Raises `ValueError` as `check_name` and for a folder that is no finished run, `PushFailed` for what the Hub or
    the way there refuses; the run is not touched.
    """
    check_name(name)
    files, api = files_to_push(folder, name), HfApi()
    try:
        address = api.create_repo(name, private=True, exist_ok=True)
        there = api.list_repo_files(name)
        left = {file for pattern in OF_ONE_RUN for file in fnmatch.filter(there, pattern)}.difference(files)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationDelete(file, is_folder=False) for file in sorted(left)),
            *(CommitOperationAdd(file, content) for file, content in files.items()),
        ]
        api.create_commit(name, operations, commit_message=f"{folder.name} by LDM Explorer")
    except Exception as error:  # what the client's own client raises, too, which its releases change
        raise PushFailed(f"{_why_not(name, error)}; {how_again(folder, name)}") from error
    return str(address)


def how_again(folder: Path, name: str) -> str:
    """What is said where a push did not come to its end."""
    return f"the run is whole in {folder}, and `python train/push.py {folder} {name}` tries again"


def files_to_push(folder: Path, name: str) -> dict[str, Path | bytes]:
    """What goes up, by its name in the repository: what the run wrote, but for states that it could be resumed from."""
    run = RunFolder(folder)
    if not run.is_marked:
        raise ValueError(f"{folder} has no mark of a run of ours: only what a run wrote itself is pushed")
    if not holds_classifier(run):
        read_checkpoint(folder)
    names = sorted(file for file in run.names if (folder / file).is_file() and not STATE.fullmatch(file))
    run.check(names)  # a link, for one, leads to what is not the run's
    files: dict[str, Path | bytes] = {file: folder / file for file in names}
    for file in {CONFIG_FILE, METRICS_FILE}.intersection(names):
        files[file] = _json(without_places(read_json(folder / file)))
    if "training" in read_json(folder / METRICS_FILE):
        files[CARD_FILE] = run_card(folder, name).encode()
    return files


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _why_not(name: str, error: Exception) -> str:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status in (401, 403):
        return f"the Hub does not let this token write {name} ({status}): give a name of your own, or a token that may"
    return f"{name} cannot be pushed ({type(error).__name__}: {first_line(error)})"
