"""The controls of the side rail, one per parameter; a room shows those that its settings name."""

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.diagnosis.checks import CHECKS
from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER, DENOISERS
from ldm_explorer.diagnosis.faults import DEFAULT_FAULT, FAULTS
from ldm_explorer.explore.checkpoint_words import first_names, in_a_line
from ldm_explorer.explore.faults import faults_of
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.training_run import find_runs
from ldm_explorer.explore.training_words import in_words
from ldm_explorer.explore.velocity import DEFAULT_STRIDE
from ldm_explorer.samplers import ALL_SAMPLERS, DEFAULT_NUM_STEPS, DEFAULT_SAMPLER
from ldm_explorer.schedules import DEFAULT_BETA_END, DEFAULT_BETA_START, DEFAULT_NUM_TIMESTEPS
from ldm_explorer.ui import settings
from ldm_explorer.ui.files import leave_undecoded
from ldm_explorer.ui.images import default_image
from ldm_explorer.ui.loss_lesson import TITLE as CASE

DEFAULT_CHECKPOINT = "flagship-8x8x4"
MORE = ""
"""The entry of a list of checkpoints that stands for those that it does not show."""


@dataclass(frozen=True)
class Control:
    """How a parameter is chosen. `more`: folded away, for those who look for it.

    `follows` names another control whose value it takes whenever somebody changes that one; what `ends_with` another is
    emptied then. `own` is the value that a checkpoint is made for, which comes with it where it is not the usual.
    `choices` are looked for anew whenever its list is opened. `whole` is what a list grows to when its entry MORE is
    chosen. `fits` says which of them a checkpoint has.
    """

    make: Callable[[Library], gr.components.Component]
    more: bool = False
    follows: str | None = None
    ends_with: str | None = None
    own: Callable[[Checkpoint], Any] | None = None
    choices: Callable[[Library], list[tuple[str, str]]] | None = None
    whole: Callable[[Library], list[tuple[str, str]]] | None = None
    fits: Callable[[Checkpoint], Container[str]] | None = None


def default_checkpoint(library: Library) -> str:
    names = library.with_denoiser() or library.names()
    return DEFAULT_CHECKPOINT if DEFAULT_CHECKPOINT in names else names[0]


def _checkpoint(library: Library) -> gr.Dropdown:
    """Those that people look for first; the last entry asks for all."""
    named = checkpoint_choices(library)
    first = first_names(library)
    rest = len(named) - len(first)
    more = [(f"more: {rest} of comparisons and faults", MORE)] if rest else []
    shown = [choice for choice in named if choice[1] in first]
    return gr.Dropdown([*shown, *more], value=default_checkpoint(library), label="Checkpoint")


def checkpoint_choices(library: Library) -> list[tuple[str, str]]:
    """All checkpoints, each in a line; what trained for a comparison comes last."""
    first = first_names(library)
    return [
        (in_a_line(library.get(name)), name) for name in sorted(library.names(), key=lambda name: name not in first)
    ]


def _runs(library: Library) -> list[tuple[str, str]]:
    return [(in_words(run), name) for name, run in find_runs(library).items()]


def _run(library: Library) -> gr.Dropdown:
    return gr.Dropdown(
        _runs(library),
        value=default_checkpoint(library),
        label="Run",
        info="also one that is still going",
        allow_custom_value=True,
    )


def _upload(_library: Library) -> gr.Image:
    upload = gr.Image(type="filepath", label="Your image", height=150, sources=["upload", "clipboard"])
    leave_undecoded(upload)
    return upload


def _slider(annotation: Any, value: float, step: float = 1) -> Callable[[Library], gr.Slider]:
    """A slider over the range that the settings allow."""
    low, high, words = _range(annotation)
    return lambda _: gr.Slider(low, high, value, step=step, **words)


def _number(annotation: Any, value: float, step: float) -> Callable[[Library], gr.Number]:
    """A number within the range that the settings allow."""
    low, high, words = _range(annotation)
    return lambda _: gr.Number(value, minimum=low, maximum=high, step=step, **words)


def _range(annotation: Any) -> tuple[Any, Any, dict[str, str]]:
    """The least and the greatest value, and the words that stand beside the control."""
    field = next(item for item in annotation.__metadata__ if hasattr(item, "metadata"))
    low = next(bound.ge for bound in field.metadata if hasattr(bound, "ge"))
    high = next(bound.le for bound in field.metadata if hasattr(bound, "le"))
    return low, high, {"label": field.title, "info": field.description}


CONTROLS: dict[str, Control] = {
    "checkpoint": Control(_checkpoint, whole=checkpoint_choices),
    "class_name": Control(
        lambda library: gr.Textbox(
            default_image(library.get(default_checkpoint(library)))[0], visible="hidden", label="Class"
        )
    ),
    "number": Control(
        lambda library: gr.Number(
            default_image(library.get(default_checkpoint(library)))[1], visible="hidden", label="Test image"
        )
    ),
    "run": Control(_run, follows="checkpoint", choices=_runs),
    "case": Control(
        lambda _: gr.Dropdown([("none", ""), (CASE, "0.34")], value="", label="Case", info="in place of the run")
    ),
    "fault": Control(
        lambda _: gr.Dropdown(
            [(fault.title, name) for name, fault in FAULTS.items()], value=DEFAULT_FAULT, label="Fault"
        ),
        fits=faults_of,
    ),
    "cause": Control(
        lambda _: gr.Dropdown(
            [("nothing: the fault is put in", ""), *((check.title, check.name) for check in CHECKS)],
            value="",
            label="Found in it",
            info="the model as it is, in place of the fault",
        ),
        more=True,
        ends_with="fault",
    ),
    "sampler": Control(
        lambda _: gr.Dropdown(list(ALL_SAMPLERS), value=DEFAULT_SAMPLER, label="Sampler"),
        own=lambda checkpoint: checkpoint.sampling.sampler,
    ),
    "steps": Control(
        _slider(settings.Steps, DEFAULT_NUM_STEPS), own=lambda checkpoint: checkpoint.sampling.num_inference_steps
    ),
    "seed": Control(lambda _: gr.Number(0, label="Seed", precision=0, minimum=0, maximum=settings.MAX_SEED)),
    "guidance": Control(_slider(settings.Guidance, 1, 0.5), more=True),
    "classes": Control(
        lambda _: gr.Dropdown(
            [("the chosen one", "chosen"), ("one of each", "each")], value="chosen", label="Classes to generate"
        ),
        more=True,
    ),
    "images": Control(_slider(settings.Images, 1), more=True),
    "denoiser": Control(
        lambda _: gr.Dropdown(
            list(DENOISERS), value=DEFAULT_DENOISER, label="Denoiser", info="exact ones need no training"
        ),
        more=True,
    ),
    "sizes": Control(
        lambda library: gr.Dropdown(
            library.names(), value=[], multiselect=True, label="Sizes to compare", info="none: one of each size"
        ),
        more=True,
    ),
    "stride": Control(_slider(settings.Stride, DEFAULT_STRIDE), more=True),
    "num_timesteps": Control(_slider(settings.NumTimesteps, DEFAULT_NUM_TIMESTEPS, 10), more=True),
    "beta_start": Control(_number(settings.BetaStart, DEFAULT_BETA_START, 1e-4), more=True),
    "beta_end": Control(_number(settings.BetaEnd, DEFAULT_BETA_END, 1e-3), more=True),
    "upload": Control(_upload, more=True),
    "size": Control(lambda _: gr.Textbox("", visible="hidden", label="Size"), more=True),
    "second_class": Control(lambda _: gr.Textbox("", visible="hidden", label="Second image: class"), more=True),
    "second_number": Control(lambda _: gr.Number(1, visible="hidden", label="Second image"), more=True),
}
"""By the parameter's name, in the order of the rail."""


def described(name: str, control: gr.components.Component, library: Library) -> dict[str, Any]:
    """What the page's script has to know of a control, above all to read its value out of an address."""
    known = _values(control) | {"label": control.label}
    if leader := CONTROLS[name].follows:
        known |= {"follows": leader}
    if (own := CONTROLS[name].own) is not None:
        of_each = {key: own(checkpoint) for key, checkpoint in library.checkpoints.items()}
        known |= {"own": {key: value for key, value in of_each.items() if value != control.value}}
    if (fits := CONTROLS[name].fits) is not None:
        fitting = {key: fits(checkpoint) for key, checkpoint in library.checkpoints.items()}
        left_out = {
            key: [value for _, value in control.choices if value not in names] for key, names in fitting.items()
        }
        known |= {"all": control.choices, "left_out": {key: values for key, values in left_out.items() if values}}
    if of_library := CONTROLS[name].whole:
        whole = of_library(library)
        known |= {"whole": whole, "short": control.choices, "choices": [value for _, value in whole]}
    return known


def _values(control: gr.components.Component) -> dict[str, Any]:
    known = {"value": control.value}
    match control:
        case gr.Image():
            return {"upload": True}
        case gr.Slider() | gr.Number():
            whole = isinstance(control.value, int) and float(control.step or 1).is_integer()
            return known | {"low": control.minimum, "high": control.maximum, "whole_number": whole}
        case gr.Dropdown() if control.allow_custom_value:
            return known
        case gr.Dropdown() | gr.CheckboxGroup():
            return known | {"choices": [value for _, value in control.choices]}
    return known
