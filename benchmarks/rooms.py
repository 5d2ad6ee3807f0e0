"""Ask everything that reads a run folder for its first answer, as the app does, and note what went wrong."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import islice
from pathlib import Path

import gradio as gr
import plotly.graph_objects as go

from ldm_explorer import diagnose
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.training_run import find_runs
from ldm_explorer.ui import (
    denoising,
    diagnosis,
    few_evaluations,
    lab,
    latent_size,
    reconstruction,
    schedule,
    training,
    velocity,
)
from ldm_explorer.ui.common import bind, example_classes, images_per_class

FALLBACK = "Something went wrong"


def faults_of(root: Path, folders: list[Path], examine: bool = True) -> list[str]:
    """What no reader, room or diagnosis of the folders below `root` should do: raise, or say what nobody foresaw.

    The command diagnoses the folders; with `examine` the room does it, too.
    """
    try:
        library = open_library(root)
        json.dumps([skip.reason for skip in library.skipped], ensure_ascii=False).encode()
        runs = find_runs(library)
    except Exception as error:
        return [f"the library: {error!r}"]
    answers = [(name, ask) for checkpoint in library.names() for name, ask in _rooms(library, checkpoint)]
    answers += [("training", lambda run=run: _ask(library, training.plot_loss, run, training.NONE)) for run in runs]
    if examine:
        answers += [(name, lambda name=name: _ask(library, diagnosis.diagnose, name)) for name in library.names()]
    answers += [("diagnose", lambda folder=folder: _diagnose(folder)) for folder in folders]
    return [f"{name}: {said}" for name, ask in answers if (said := _why_not(ask))]


def _rooms(library: Library, name: str) -> Iterator[tuple[str, Callable[[], object]]]:
    def asked(handler: Callable, *inputs, steps: int | None = None) -> Callable[[], object]:
        return lambda: _ask(library, handler, *inputs, steps=steps)

    class_name = example_classes(library, name)[-1]
    images_per_class(library, name)
    image = (name, class_name, 1, None)
    yield "reconstruction", asked(reconstruction.reconstruct, *image, name)
    yield "schedule", asked(schedule.noise_along_schedules, *image, 0, 100, 1e-4, 0.02)
    yield "velocity", asked(velocity.show_velocity, *image, 0, 20, 5)
    yield "denoising", asked(denoising.denoise, name, 0, class_name, "unipc", 2, 1, 1, steps=2)
    yield "few evaluations", asked(few_evaluations.show_few_evaluations, name)
    yield "film", asked(denoising.open_film, name)
    yield "latent size", asked(latent_size.show_measures, name, [name])
    yield "faults", asked(lab.break_it, name, 0, lab.DEFAULT_FAULT, "network", steps=1)
    yield "exact denoiser", asked(denoising.denoise, name, 0, class_name, "unipc", 2, 1, 1, "Gaussian", steps=1)


def _ask(library: Library, handler: Callable, *inputs, steps: int | None = None) -> None:
    """A handler as the app binds it, and its answer as it would be sent."""
    answer = bind(handler, library)(*inputs)
    for part in [answer] if steps is None else islice(answer, steps):
        _send(part)


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
