"""Models on the Hugging Face Hub, as folders in its cache: JSON and safetensors alone, and no more than a limit.

Nothing else is fetched, so no code and nothing pickled ever is.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm

from ldm_explorer.files import CheckpointError, first_line, shown
from ldm_explorer.model_folder import find_model
from ldm_explorer.model_parts import ModelFolder
from ldm_explorer.network_files import WEIGHTS
from ldm_explorer.run_layout import NETWORK_CONFIG, PIPELINE_FILE, STATISTICS_FILE

PREFIX = "hf:"
MAX_BYTES, MAX_JSON_BYTES = 4_000_000_000, 32_000_000
"""Of all weights together, and of everything that is read before they are asked for."""
MAX_FILES = 1000
_REFERENCE = re.compile(r"hf:(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?", re.ASCII)
_JSON = re.compile(r"([\w-][\w.-]*/){0,2}[\w-][\w.-]*\.jsonl?", re.ASCII)
"""Nothing hidden, above all no mark of a run: what is in a cache is nobody's to be written to."""


def is_hub_id(reference: object) -> bool:
    return str(reference).startswith(PREFIX)


def name_on_hub(reference: str) -> str:
    """The name without its owner."""
    return _parts(reference)[0].split("/")[1]


def fetch(reference: str, max_bytes: int = MAX_BYTES, told: Callable[[str], None] | None = None) -> Path:
    """The folder in the cache of a repository, `hf:owner/name` or `hf:owner/name@revision`.

    Its JSON comes first, and of the weights those of its networks alone. What the cache has is used where the Hub
    cannot be reached. `told` hears how much has come, again and again; what it raises ends the download. Raises
    `CheckpointError` for what is not there, private, too large, or no model that is read.
    """
    repo, revision = _parts(reference)
    try:
        return _fetched(repo, revision, max_bytes, told)
    except CheckpointError:
        raise
    except Exception as error:  # what the client's own client raises, too, which its releases change
        raise CheckpointError(_why_not(reference, error)) from error


def _parts(reference: str) -> tuple[str, str | None]:
    """The repository and the revision. Raises `CheckpointError` for what is no id."""
    found = _REFERENCE.fullmatch(reference)
    if not found:
        raise CheckpointError(f"{shown(reference)} is no id of a model: give hf:owner/name or hf:owner/name@revision")
    return found["repo"], found["revision"]


def _fetched(repo: str, revision: str | None, max_bytes: int, told: Callable[[str], None] | None) -> Path:
    try:
        listed = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=20).siblings or []
    except Exception as error:
        if _is_refusal(error):
            raise
        # Names that are always fetched: asked for all, the client misses what is never read.
        known = [PIPELINE_FILE, NETWORK_CONFIG]
        return Path(snapshot_download(repo, revision=revision, allow_patterns=known, local_files_only=True))
    sizes = {file.rfilename: file.size or 0 for file in listed[: MAX_FILES * 10]}
    folder = _download(repo, revision, sizes, filter(_JSON.fullmatch, sizes), MAX_JSON_BYTES, told)
    weights = _weights_of(repo, find_model(folder), folder, sizes)
    return _download(repo, revision, sizes, [*filter(_JSON.fullmatch, sizes), *weights], max_bytes, told)


def _is_refusal(error: Exception) -> bool:
    """Whether the Hub itself answered that there is no such thing; not where there is no network, or it fails."""
    return isinstance(error, HFValidationError) or (isinstance(error, HfHubHTTPError) and _status(error) < 500)


def _status(error: HfHubHTTPError) -> int:
    return getattr(error.response, "status_code", 500)


def _download(
    repo: str,
    revision: str | None,
    sizes: dict[str, int],
    names: Iterable[str],
    most: int,
    told: Callable[[str], None] | None = None,
) -> Path:
    wanted = list(names)
    total = sum(sizes[name] for name in wanted)
    if total > most or len(wanted) > MAX_FILES:
        raise CheckpointError(
            f"{repo} has {total / 1e6:,.0f} MB in {len(wanted):,} files to read: {most / 1e6:,.0f} MB and "
            f"{MAX_FILES:,} files are fetched at most"
        )
    bar = None if told is None else _telling(repo, total, told)
    if not wanted:
        raise CheckpointError(f"{repo} holds no config.json: give one of diffusers' models")
    return Path(snapshot_download(repo, revision=revision, allow_patterns=wanted, tqdm_class=bar))


def _telling(repo: str, total: int, told: Callable[[str], None]) -> type[tqdm]:
    """What the client would draw its progress with: nothing is drawn, and of every piece that came is told."""
    came = 0

    class Told(tqdm):
        def __init__(self, *arguments: Any, **options: Any):
            super().__init__(*arguments, **options | {"disable": True})
            self.counts = options.get("unit") == "B" and options.get("desc") != "Downloading bytes"  # once, not twice

        def update(self, n: float | None = 1) -> None:
            nonlocal came
            came += int(n or 0) if self.counts else 0
            told(f"{repo}: {came / 1e6:,.1f} of {total / 1e6:,.1f} MB came." if came else f"{repo} is looked for.")

    return Told


def _weights_of(repo: str, model: ModelFolder, root: Path, sizes: dict[str, int]) -> list[str]:
    """The files of the networks' weights; of several precisions the full one."""
    inside = model.folder.relative_to(root)
    weights = [(inside / STATISTICS_FILE).as_posix()]
    for part in filter(None, (model.vae, model.network)):
        place = inside / part
        names = [name for name in sizes if Path(name).parent == place and name.endswith(".safetensors")]
        plain = (place / WEIGHTS).as_posix()
        if not names:
            raise CheckpointError(f"{repo} has no safetensors weights in {place.as_posix()}/: nothing else is read")
        weights += [plain] if plain in names else names
    return [name for name in weights if name in sizes]


def _why_not(reference: str, error: Exception) -> str:
    if isinstance(error, LocalEntryNotFoundError):
        return f"{reference} is not in the cache and the Hub cannot be reached: go online, or give a folder"
    if isinstance(error, GatedRepoError):
        return f"{reference} is gated: ask for access on its page, and sign in with `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return f"{reference} is no revision of this model: leave out what is behind the @, or give another one"
    if isinstance(error, HfHubHTTPError) and _status(error) in (401, 404):
        return f"{reference} is not on the Hub, or is private: check its name, or sign in with `hf auth login`"
    if isinstance(error, HFValidationError):
        return f"{reference} is no id of a model: {first_line(error)}"
    return f"{reference} cannot be fetched ({type(error).__name__}: {first_line(error)})"
