"""The page for programs: every room, and what `endpoints` adds, as a named endpoint that takes and returns JSON."""

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

import gradio as gr
from gradio.context import LocalContext, get_blocks_context

from ldm_explorer.explore.library import Library
from ldm_explorer.files import shown
from ldm_explorer.ui.answers import Room, answers, one_sentence, size_of
from ldm_explorer.ui.endpoints import ENDPOINTS, Endpoint
from ldm_explorer.ui.html import Markup, text_in
from ldm_explorer.ui.results import Results
from ldm_explorer.ui.server.turns import Job
from ldm_explorer.ui.settings import OF_B

BESIDE = "what B has other values of, as in the page's address: steps=50&sampler=ddim"
PICTURES = "as PNG in data URIs: all, those of the last step, or none"


def build_api(rooms: tuple[Room, ...], library: Library, results: Results, openings: dict[str, Any]) -> None:
    """An endpoint for each room, and the others. `openings` are the page's opening values: what a caller leaves out."""
    for room in rooms:
        more = [
            Parameter("beside", Parameter.POSITIONAL_OR_KEYWORD, default="", annotation=str),
            Parameter(
                "pictures", Parameter.POSITIONAL_OR_KEYWORD, default="last", annotation=Literal["all", "last", "none"]
            ),
        ]
        _serve(room, room_answer(room, library, results), openings, more, room.answer.__doc__ or "")
    for endpoint in ENDPOINTS:
        _serve(endpoint, other_answer(endpoint, library), openings, [], "")


def room_answer(room: Room, library: Library, results: Results) -> Callable[..., dict[str, Any]]:
    """What a room's endpoint does with its values by name."""

    def answer(beside: str = "", pictures: str = "last", **chosen) -> dict[str, Any]:
        if pictures not in ("all", "last", "none"):
            raise ValueError(f"pictures is {pictures!r:.60}: give all, last or none")
        of_b = parse_qsl(str(beside or ""), keep_blank_values=True)
        if unknown := [name for name, _ in of_b if name not in room.SETTINGS.model_fields]:
            known = ", ".join(room.SETTINGS.model_fields)
            raise ValueError(f"beside names {shown(unknown[0])}: give values of B as in steps=50&seed=1, of {known}")
        question = _question(chosen, of_b)
        values = _last(room, library, results, question)
        settings_of_a, settings_of_b = room.SETTINGS.read(question)
        said: dict[str, Any] = {"room": room.NAME, "question": question_of(room)}
        said["chosen"] = settings_of_a.model_dump(mode="json")
        said["beside"] = settings_of_b.model_dump(mode="json") if settings_of_b else None
        return said | as_json(values, pictures)

    return answer


def question_of(room: Any) -> str:
    """Of a part without one, its title."""
    return getattr(room, "QUESTION", None) or room.TITLE


def other_answer(endpoint: Endpoint, library: Library) -> Callable[..., dict[str, Any]]:
    """What one of the others does."""

    def answer(**chosen) -> dict[str, Any]:
        return _last(endpoint, library, Results(size_of), _question(chosen))[0]

    return answer


def _question(chosen: dict[str, Any], of_b: Sequence[tuple[str, str]] = ()) -> str:
    """As the page asks it, so that both are checked in the same way, and each finds what the other was answered."""
    given = {name: value for name, value in chosen.items() if value is not None}
    return urlencode([*given.items(), *((f"{OF_B}{name}", value) for name, value in of_b)], doseq=True)


def _last(room: Room | Endpoint, library: Library, results: Results, question: str) -> tuple:
    """The last answer; where that leaves a value as it was, the one before counts."""
    latest: list[Any] = []
    for values in answers(room, library, results, question, Job.of(LocalContext.event_id.get(None))):  # type: ignore[arg-type]
        latest = [new if _is_new(new) else old for new, old in zip(values, latest or values, strict=True)]
    return tuple(latest)


def _is_new(value: Any) -> bool:
    return not (isinstance(value, dict) and "__type__" in value and "value" not in value)


def as_json(values: tuple, pictures: str) -> dict[str, Any]:
    """An answer of a room by what its parts are: the show of its stage, sentences, plots, and other data."""
    found: dict[str, Any] = {"show": None, "sentences": [], "plots": [], "data": []}
    for value in values:
        if isinstance(value, dict) and "__type__" in value:
            value = value.get("value")
        match value:
            case None | "":
                continue
            case {"frames": _}:
                found["show"] = _show(value, pictures)
            case str():
                found["sentences"].append(text_in(value) if isinstance(value, Markup) else value)
            case _ if hasattr(value, "to_plotly_json"):
                found["plots"].append(_plot(value.to_plotly_json()))
            case _:
                found["data"].append(value)
    return found


def _show(show: dict[str, Any], pictures: str) -> dict[str, Any]:
    """Without what only the page needs, and the pictures that were not asked for."""
    last = len(show["frames"]) - 1
    frames = []
    for index, frame in enumerate(show["frames"]):
        with_pictures = pictures == "all" or (pictures == "last" and index == last)
        sides = [[_picture(picture, with_pictures) for picture in side] for side in frame["sides"]]
        frames.append({"label": frame["label"], "x": frame["x"], "sides": sides})
    return {name: show[name] for name in ("axis", "sides", "sentence") if name in show} | {"frames": frames}


def _picture(picture: dict[str, Any], whole: bool) -> dict[str, Any]:
    return {
        name: value
        for name, value in picture.items()
        if name not in ("size", "slot", "wide") and (whole or name != "src")
    }


def _plot(figure: dict[str, Any]) -> dict[str, Any]:
    """Its title, those of its axes, and its curves in numbers."""
    layout = figure["layout"]
    titles = {f"{axis}_title": _title(layout.get(f"{axis}axis", {})) for axis in "xy"}
    curves = [
        {"name": curve.get("name")} | {axis: _numbers(curve[axis]) for axis in "xyz" if curve.get(axis) is not None}
        for curve in figure["data"]
    ]
    return {"title": _title(layout), **titles, "curves": curves}


def _title(part: dict[str, Any]) -> str:
    title = part.get("title") or ""
    return text_in(title.get("text", "") if isinstance(title, dict) else title)


def _numbers(values: Any) -> list[Any]:
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _serve(
    room: Room | Endpoint, answer: Callable, openings: dict[str, Any], more: list[Parameter], answers_with: str
) -> None:
    """Make an endpoint of what a room's settings say, with their names, bounds and defaults."""
    schema = room.SETTINGS.model_json_schema().get("properties", {})
    parameters = [*_parameters(room, openings), *more]

    def endpoint(*values):
        with one_sentence():
            return answer(**dict(zip([parameter.name for parameter in parameters], values, strict=True)))

    endpoint.__name__ = room.NAME.replace("-", "_")
    endpoint.__signature__ = Signature(parameters, return_annotation=dict)  # type: ignore[attr-defined]
    endpoint.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": dict}
    endpoint.__doc__ = _documentation(room, parameters, schema, answers_with)
    endpoint.work = room.WORK  # type: ignore[attr-defined]
    made = gr.api(endpoint, api_name=endpoint.__name__)
    for parameter, component in zip(parameters, get_blocks_context().fns[made["id"]].inputs, strict=True):
        known = schema.get(parameter.name, {})
        component.label = known.get("title", parameter.name)
        component._api_info |= {key: value for key, value in known.items() if key not in ("title", "default")}


def _parameters(room: Room | Endpoint, openings: dict[str, Any]) -> list[Parameter]:
    """Those that may be left out last, as Python wants them."""
    made = []
    for name, field in room.SETTINGS.model_fields.items():
        default = openings.get(name, Parameter.empty) if field.is_required() else field.default
        made.append(Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=field.annotation))
    return sorted(made, key=lambda parameter: parameter.default is not Parameter.empty)


def _documentation(room: Room | Endpoint, parameters: list[Parameter], schema: dict, answers_with: str) -> str:
    """As gradio reads docstrings for an endpoint and for a tool."""
    described, lines = {"beside": BESIDE, "pictures": PICTURES}, []
    for parameter in parameters:
        known = schema.get(parameter.name, {})
        bounds = [f"{known['minimum']:,} to {known['maximum']:,}"] if {"minimum", "maximum"} <= known.keys() else []
        words = [known.get("title"), known.get("description") or described.get(parameter.name), *bounds]
        lines.append(f"    {parameter.name}: {', '.join(word for word in words if word)}")
    head = f"{question_of(room)} {answers_with.partition(chr(10) * 2)[0]}".strip()
    return "\n".join([head, *(["", "Args:", *lines] if lines else [])])
