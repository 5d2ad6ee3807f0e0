"""The kinds of work: light, which a page asks for at every change; long, which a person waits for; opening models."""

from dataclasses import dataclass

from gradio import Blocks


@dataclass(frozen=True)
class Work:
    name: str
    at_once: int  # requests under way, of all clients; they compute in turns


LIGHT = Work("light", 8)
LONG = Work("long", 8)
OPENING = Work("opening", 2)
"""Reads folders and waits for downloads, and computes nothing."""


def queue_by_work(app: Blocks) -> None:
    """Give each kind of work a queue of its own; what a handler does not say is light."""
    for fn in app.fns.values():
        work = getattr(fn.fn, "work", LIGHT)
        fn.concurrency_id, fn.concurrency_limit = work.name, work.at_once
