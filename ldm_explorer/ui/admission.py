"""What was opened while the app runs is shown to whom it may be opened for, and to nobody else."""

from collections.abc import Iterable
from typing import Any

from gradio.context import LocalContext

from ldm_explorer.explore.library import Library
from ldm_explorer.ui.server.clients import on_this_machine


def check_client(library: Library, reference: str) -> bool:
    """Whether who asks now sits at this machine and may open all. Raises `ValueError` where they may not open this."""
    here = on_this_machine(LocalContext.request.get(None))
    library.may_open.check(reference, here)
    return here and library.may_open.own


def check_names(library: Library, asked: Iterable[Any]) -> None:
    """Raises `ValueError` where one of these values, or of those in a list, names what who asks now may not see."""
    for value in asked:
        for name in value if isinstance(value, tuple | list) else (value,):
            if isinstance(name, str) and (reference := library.opened.reference(name)):
                check_client(library, reference)
