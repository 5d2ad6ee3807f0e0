"""The values of a request against the components they are for: one sentence for what does not fit.

Gradio checks some of this itself, but late, without the field's name, and with a traceback in the log.
"""

import math
import re
from pathlib import Path
from typing import Any

from gradio import Blocks, components
from gradio.block_function import BlockFunction
from gradio.components.api_component import Api
from gradio.state_holder import SessionState

from ldm_explorer.files import shown
from ldm_explorer.ui.server.refusals import Refused

MAX_CHOICES_NAMED = 12
MAX_TEXT = 1000
MAX_LIST = 100
MAX_NUMBER = 2**53
"""Beyond it JSON's numbers are not exact."""


class InputCheck:
    """Knows which components' bounds handlers change: those a session's own component has, or else the handler."""

    def __init__(self, app: Blocks):
        outputs = (component for fn in app.fns.values() for component in fn.outputs)
        bounded = (item for item in outputs if isinstance(item, components.Dropdown | components.Slider))
        self.changing = {component._id: component for component in bounded}

    def leave_changing_bounds_to_handlers(self) -> None:
        """Keep gradio from checking values against the opening bounds: a page goes on when its session is dropped."""
        for component in self.changing.values():
            component.preprocess = lambda payload: payload

    def check(self, fn: BlockFunction, values: list[Any], session: SessionState | None, uploads: Path) -> list[Any]:
        """The values as they are handed on, without the server's own state. Raises `Refused` where one does not fit."""
        if len(values) != len(fn.inputs):
            names = ", ".join(component.label or "state" for component in fn.inputs) or "none"
            raise Refused(f"{fn.api_name} takes {len(fn.inputs)} values, {len(values)} came: give {names}")
        checked: list[Any] = []
        for component, value in zip(fn.inputs, values, strict=True):
            if isinstance(component, components.State):
                checked.append(None)
                continue
            known = component if session is None else session.get(component._id, component)
            bounds_change = known is component and component._id in self.changing
            if (wanted := _wanted(known, value, uploads, bounds_change)) is not None:
                came = "empty" if value is None else shown(value)
                raise Refused(f"{component.label or 'a value'} is {came}: give {wanted}")
            checked.append(_file(value) if isinstance(value, dict) else value)
        return checked


def _wanted(component: components.Component, value: Any, uploads: Path, bounds_change: bool) -> str | None:
    """What is wanted in the place of a value; None where it fits."""
    match component:
        case components.Image() | components.File():
            fits = value is None or (isinstance(value, dict) and is_upload(value.get("path"), uploads))
            return None if fits else "a file that was uploaded to this app"
        case components.Number() | components.Slider():
            low, high = (None, None) if bounds_change else (component.minimum, component.maximum)
            return None if _is_number(value, low, high) else _range(low, high)
        case components.Dropdown():
            known = None if bounds_change else [choice for _, choice in component.choices]
            return None if _is_choice(value, known) else _choices(known)
        case components.CheckboxGroup():
            known = [choice for _, choice in component.choices]
            fits = _is_list(value, len(known)) and all(_is_choice(item, known) for item in value)
            return None if fits else f"a list out of {_choices(known)}"
        case components.Textbox():
            most = component.max_length or MAX_TEXT
            return None if _is_text(value, most) else f"a text of at most {most} characters"
        case Api() if component._api_info.get("type") == "array":
            fits = _is_list(value, MAX_LIST) and all(_is_choice(item, None) for item in value)
            return None if fits else f"a list of at most {MAX_LIST} names"
        case Api():  # nothing that lies deeper: gradio would fetch addresses that stand in it
            fits = (
                value is None or isinstance(value, bool) or _is_number(value, None, None) or _is_text(value, MAX_TEXT)
            )
            return None if fits else f"a number, or a text of at most {MAX_TEXT} characters"
    return "nothing" if value is not None else None


def _is_number(value: Any, low: float | None, high: float | None) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = -MAX_NUMBER if low is None else low, MAX_NUMBER if high is None else high
    return low <= value <= high and math.isfinite(value)


def _range(low: float | None, high: float | None) -> str:
    return "a number" if low is None or high is None else f"a number from {low:,} to {high:,}"


def _is_list(value: Any, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most


def _is_text(value: Any, most: int) -> bool:
    """Whether it is text that can be sent back: halves of surrogate pairs, which JSON can hold, cannot."""
    return isinstance(value, str) and len(value) <= most and not re.search("[\ud800-\udfff]", value)


def _is_choice(value: Any, known: list[Any] | None) -> bool:
    if known is None:
        return _is_text(value, MAX_TEXT)
    return isinstance(value, str) and value in known


def _choices(known: list[Any] | None) -> str:
    if known is None:
        return "a name from the list"
    more = f" or one of {len(known) - MAX_CHOICES_NAMED} more" if len(known) > MAX_CHOICES_NAMED else ""
    return f"one of {', '.join(map(str, known[:MAX_CHOICES_NAMED]))}{more}"


def _file(value: dict[str, Any]) -> dict[str, Any]:
    """An upload by its path alone: gradio would fetch the addresses that stand deeper in it."""
    return {"path": value["path"], "meta": {"_type": "gradio.FileData"}}


def is_upload(path: Any, uploads: Path) -> bool:
    """Whether it is the path of a file in the folder of uploads; addresses to fetch are not, nor are links."""
    if not isinstance(path, str):
        return False
    try:
        file = Path(path)
        return file.is_absolute() and file.resolve().is_relative_to(uploads.resolve()) and file.is_file()
    except (OSError, ValueError):  # too long, or with what no name can have
        return False
