"""Ask everything that reads a run folder for its first answer, as the page does, and note what went wrong."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gradio as gr
import plotly.graph_objects as go

from ldm_explorer import diagnose
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.training_run import find_runs
from ldm_explorer.ui.answers import answering, one_sentence, size_of
from ldm_explorer.ui.api import other_answer
from ldm_explorer.ui.endpoints import ENDPOINTS
from ldm_explorer.ui.images import default_image
from ldm_explorer.ui.results import Results
from ldm_explorer.ui.rooms import ROOMS
from ldm_explorer.ui.server.work import LONG
from ldm_explorer.ui.thumbnails import ImageSets

FALLBACK = "Something went wrong"
EXAMINATIONS = ("diagnosis", "diagnose")
FIRST_ANSWERS = 2
"""Of long work; the others say no more about the folder."""


def faults_of(root: Path, folders: list[Path], examine: bool = True) -> list[str]:
    """What no reader, room or diagnosis of the folders below `root` should do: raise, or say what nobody foresaw.

    The command diagnoses the folders; with `examine` the room and the endpoint do it, too.
    """
    try:
        library = open_library(root)
        json.dumps([skip.reason for skip in library.skipped], ensure_ascii=False).encode()
        runs = find_runs(library)
        json.dumps(ImageSets.read(library).described(), ensure_ascii=False).encode()
        questions = [(ask, chosen) for name in library.names() for ask, chosen in _of_checkpoint(library, name)]
    except Exception as error:
        return [f"the library: {error!r}"]
    questions += [(ask, {"run": run}) for ask in _asked() if "run" in ask.SETTINGS.model_fields for run in runs]
    answers: list[tuple[str, Callable[[], object]]] = [
        (ask.NAME, partial(_endpoint if ask in ENDPOINTS else _room, ask, library, chosen))
        for ask, chosen in questions
        if examine or ask.NAME not in EXAMINATIONS
    ]
    answers += [("ldm-diagnose", partial(_diagnose, folder)) for folder in folders]
    return [f"{name}: {said}" for name, ask in answers if (said := _why_not(ask))]


def _asked() -> list[Any]:
    """The rooms, what is folded away in them, and the other endpoints."""
    return [*ROOMS, *(part for room in ROOMS for part in getattr(room, "PARTS", ())), *ENDPOINTS]


def _of_checkpoint(library: Library, name: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Every question about a checkpoint, as the page opens with it and with an exact denoiser."""
    class_name, number = default_image(library.get(name))
    values = {"checkpoint": name, "class_name": class_name, "number": number, "steps": 2}
    values |= {"checkpoints": [name], "sizes": name, "size": name, "formula": "a*z_t - b*v", "quantity": "z0"}
    for ask in _asked():
        fields = ask.SETTINGS.model_fields
        if "run" not in fields:
            yield ask, {field: value for field, value in values.items() if field in fields}
        if "denoiser" in fields:
            yield ask, {field: value for field, value in values.items() if field in fields} | {"denoiser": "Gaussian"}


def _room(room: Any, library: Library, chosen: dict[str, Any]) -> None:
    """A room's answers to a question of the page, as they would be sent."""
    most = FIRST_ANSWERS if room.WORK is LONG and room.NAME not in EXAMINATIONS else None
    for answer in islice(answering(room, library, Results(size_of))(urlencode(chosen)), most):
        _send(answer)


def _endpoint(endpoint: Any, library: Library, chosen: dict[str, Any]) -> None:
    with one_sentence():
        _send(json.dumps(other_answer(endpoint, library)(**chosen), ensure_ascii=False))


def _send(answer: object) -> None:
    if isinstance(answer, go.Figure):
        answer.to_json()
    elif isinstance(answer, str):
        answer.encode()
    elif isinstance(answer, dict):
        _send(list(answer.values()))
    elif isinstance(answer, list | tuple):
        for part in answer:
            _send(part)


def _diagnose(folder: Path) -> None:
    with redirect_stdout(io.StringIO()) as said, redirect_stderr(io.StringIO()) as refused:
        status = diagnose.main([str(folder)])
    said.getvalue().encode()
    if status == diagnose.REFUSED and len(refused.getvalue().splitlines()) != 1:
        raise AssertionError(f"refused in other than one sentence: {refused.getvalue()!r}")


def _why_not(ask: Callable[[], object]) -> str:
    """ "" for an answer or a refusal in a sentence."""
    try:
        ask()
    except gr.Error as refusal:
        message = str(refusal.message)
        message.encode()
        return f"{FALLBACK}: {refusal.__cause__!r}" if message.startswith(FALLBACK) else ""
    except (Exception, SystemExit) as error:
        return repr(error)
    return ""
