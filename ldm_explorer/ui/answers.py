"""What a room answers: kept by the question, computed when it is its turn, with its errors as one sentence."""

import functools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import parse_qs

import gradio as gr
from gradio.context import LocalContext

from ldm_explorer.explore.library import Library
from ldm_explorer.malloc import return_freed_memory
from ldm_explorer.ui.admission import check_names
from ldm_explorer.ui.html import escaped
from ldm_explorer.ui.results import Results, Run
from ldm_explorer.ui.server.refusals import STOPPED, UNFORESEEN
from ldm_explorer.ui.server.turns import TURNS, Job, Stopped
from ldm_explorer.ui.server.work import LONG, Work
from ldm_explorer.ui.settings import Settings
from ldm_explorer.ui.stage import Show

WAIT_SECONDS = 0.5
EVERY_SECONDS = 0.2
"""How often a page is told of new steps: drawing each of a quick run would take longer than computing it."""
SEEN = "seen"
"""In the question of a page that asks again: a stamp, a dot, and how often it has asked."""
_log = logging.getLogger(__name__)


class Room(Protocol):
    """A file of `rooms`: what it asks, what can be chosen in it, and what it answers."""

    NAME: str
    """In the address."""
    TITLE: str
    QUESTION: str
    WORK: Work
    SETTINGS: type[Settings]

    def build(self, library: Library) -> list[gr.components.Component]:
        """Lay out the room in the current Blocks; returns the components that an answer fills."""

    def answer(self, library: Library, chosen: Any, beside: Any | None) -> Iterator[tuple]:
        """The values of these components, as often as there is something new. Raises `ValueError` as one sentence."""

    # Where a room needs them it has also `COMPARES` (see `compares`), `PARTS` (`parts.parts_of`), `HIDDEN`
    # (`page.uses`), `script(library, chosen) -> str` (`tools.script_for`) and `refused(library, question, error)`, the
    # values of its components where it refuses a question.
    # A room that reads what changes has also `stamp(library, chosen, beside) -> str`, another one when there is more to
    # read. Where its show holds the stamp, the page asks again every few seconds, and says which it has seen.


@contextmanager
def one_sentence() -> Iterator[None]:
    """Refusals (`ValueError`) are shown as they are; what nobody foresaw is logged and shown as one plain sentence."""
    try:
        yield
    except gr.Error:
        raise
    except Stopped:
        raise gr.Error(STOPPED, visible=False, print_exception=False) from None
    except ValueError as error:
        raise gr.Error(escaped(str(error)), print_exception=False) from error
    except Exception as error:
        _log.exception("a handler failed")
        raise gr.Error(UNFORESEEN, print_exception=False) from error


def bind(handler: Callable, library: Library) -> Callable:
    """What Gradio calls where something in a room has a button of its own: the handler with the library filled in."""

    def reply(*inputs: Any) -> Any:
        with one_sentence(), TURNS.turn(Job.of(LocalContext.event_id.get(None))):
            check_names(library, inputs)
            return handler(library, *inputs)

    return reply


def compares(room: Room) -> bool:
    """Whether the visitor chooses B in a room; one with two sides of its own says `COMPARES = False`."""
    return getattr(room, "COMPARES", True)


def answering(
    room: Room, library: Library, results: Results, on_stage: int | None = None
) -> Callable[[str], Iterator[Any]]:
    """What Gradio calls with a room's question, a query string: streams the room's answers. Nothing is asked by "".

    Where the first of its `on_stage` components is a stage, that says why a question is refused: its old pictures
    would stand for what they do not show.
    """

    def answer(question: str) -> Iterator[Any]:
        with one_sentence():
            values, asked = None, question.partition(f"&{SEEN}=")[0]
            job = Job.of(LocalContext.event_id.get(None))
            try:
                for values in answers(room, library, results, question, job, EVERY_SECONDS) if question else ():
                    told = [_told(value, asked) for value in values]
                    yield told if len(told) > 1 else told[0]  # as Gradio takes the value of one component
            except ValueError as error:
                if hasattr(room, "refused"):
                    yield [_told(value, asked) for value in room.refused(library, asked, error)]
                    return
                if on_stage is None:
                    raise
                refused = _told(Show(asked, "Step", 0, []).end(str(error)), asked)
                yield [refused, *[gr.skip()] * (on_stage - 1)] if on_stage > 1 else refused
                return
            if values is None:  # a generator that yields nothing would empty the components
                yield gr.skip()

    handler: Any = on_gpu(answer) if room.WORK is LONG else answer
    handler.work, handler.supersedes = room.WORK, True
    return handler


def on_gpu(handler: Callable) -> Callable:
    """`spaces.GPU` on a ZeroGPU Space, where at least one function must ask for it; nothing elsewhere."""
    try:
        import spaces
    except ImportError:
        return handler
    return spaces.GPU(handler)


def _told(value: Any, question: str) -> Any:
    """A value as it is sent; a copy of what is kept, for Gradio takes the value out of an update."""
    if not isinstance(value, dict):
        return value
    return value | ({"question": question} if "frames" in value else {})


def answers(
    room: Room, library: Library, results: Results, question: str, job: Job, every: float = 0.0
) -> Iterator[tuple]:
    """The room's answers, from what others have computed where somebody has asked the same; none where the page asks
    again and nothing has changed since. An answer holds those before: of them the newest every so many seconds."""
    chosen, beside = room.SETTINGS.read(question)
    check_names(library, (value for side in (chosen, beside) if side for _, value in side))
    stamp = room.stamp(library, chosen, beside) if hasattr(room, "stamp") else ""
    if stamp and stamp == seen(question):
        return
    key = (library, library.opened.edition, room.NAME, chosen, beside)
    run = results.run(key, functools.partial(room.answer, library, chosen, beside), stamp)
    try:
        yield from follow(run, job, every)
    except Exception:
        results.forget(key, run)
        raise
    finally:  # also of a run that was stopped on its way
        results.account(key, run)
        if room.WORK is LONG:
            return_freed_memory()


def seen(question: str) -> str:
    """The stamp of what the page shows already, where it asks again."""
    return parse_qs(question).get(SEEN, [""])[-1].partition(".")[0]


def follow(run: Run, job: Job, every: float = 0.0) -> Iterator[tuple]:
    """A run from what is there on: the newest step every so many seconds, first after half of them, and the last one.
    The next step is computed here where nobody else computes it.

    The run's lock is taken before the turn: who had the turn and waited for the lock would wait for ever.
    """
    seen = told = 0
    due = time.monotonic() + every / 2
    while True:
        if job.stopped:
            raise Stopped
        with _held(run.lock, job):
            if len(run.steps) == seen and not run.done:
                with TURNS.turn(job):
                    run.advance()
            seen, done = len(run.steps), run.done
            latest = run.steps[-1] if run.steps else None
        if seen > told and latest is not None and (done or time.monotonic() >= due):
            told = seen
            yield latest
            due = time.monotonic() + every
        if done:
            return


@contextmanager
def _held(lock: threading.Lock, job: Job) -> Iterator[None]:
    while not lock.acquire(timeout=WAIT_SECONDS):
        if job.stopped:
            raise Stopped
    try:
        yield
    finally:
        lock.release()


def size_of(answer: tuple) -> int:
    """The bytes of an answer as they are kept, about."""
    return sum(len(json.dumps(value, default=str)) for value in answer)


RESULTS = Results(size_of)
"""Of all rooms and their parts."""
