"""Room: what does a fault look like, beside the same run without it?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gradio as gr
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER
from ldm_explorer.diagnosis.fault import Fault
from ldm_explorer.diagnosis.faults import DEFAULT_FAULT, fault_of, lab_checkpoint
from ldm_explorer.diagnosis.reading import read_loss
from ldm_explorer.explore.export import fault_script, short_path
from ldm_explorer.explore.faults import (
    SYMPTOM_NAMES,
    FaultFrame,
    Moment,
    OtherPath,
    Subject,
    faults_of,
    run_experiment,
    set_up,
)
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.own_fault import CLIPPING, clips_latents, find_own_fault
from ldm_explorer.figures.faults import symptom_figure
from ldm_explorer.files import as_sentence
from ldm_explorer.ui import settings
from ldm_explorer.ui.controls import default_checkpoint
from ldm_explorer.ui.html import Markup, html, join, link_to
from ldm_explorer.ui.pictures import grid
from ldm_explorer.ui.server.work import LONG
from ldm_explorer.ui.settings import Settings
from ldm_explorer.ui.stage import Frame, Histogram, Picture, Shot, Show, Side, plot, stage

NAME = "faults"
TITLE = "Faults"
QUESTION = "What does a fault look like?"
WORK = LONG
COMPARES = False
COLUMNS = 5
WITH_THE_FIX = (
    "Both runs are of this model and start from the same noise. The right one has the line of the fix changed, in "
    "memory alone. Another fault, or nothing as “Found in it” under More, goes back to faults that are put in."
)
NO_SETTING_FIXES_IT = (
    "No setting fixes it. Beside the model stands a small run that was trained well: how a healthy walk looks step by "
    "step, on images that need not be of the same kind."
)
CLIPS_ITSELF = "the model's own scheduler clips latents, so that the run without the fault is clipped, too."
NO_DENOISER = "There is no denoiser among these checkpoints: train one with `accelerate launch train/ldm.py`."


class FaultSettings(Settings):
    """A fault, and the run that it is put into."""

    checkpoint: settings.Checkpoint
    fault: settings.Fault = DEFAULT_FAULT
    seed: settings.Seed = 0
    denoiser: settings.Denoiser = DEFAULT_DENOISER
    cause: settings.Cause = ""


SETTINGS = FaultSettings


def build(library: Library) -> list[gr.components.Component]:
    if not library.with_denoiser():
        gr.Markdown(NO_DENOISER)
    shown: list[gr.components.Component] = [gr.HTML(elem_classes="ldm-what"), stage()]
    with gr.Row(elem_classes="ldm-follow"):
        shown.append(gr.Plot(show_label=False, min_width=320, visible=False))
    with gr.Accordion("Where it lies, and what the losses say", open=False):
        shown.append(gr.HTML())
    return shown


def answer(library: Library, chosen: FaultSettings, _beside: FaultSettings | None) -> Iterator[tuple]:
    """The right run and the broken one from the same noise, step by step; the figure comes with the last step.

    With a `cause` that Diagnosis found in the checkpoint, that as it is beside it with the fix.
    """
    played = _own(library, chosen) if chosen.cause else _put_in(library, chosen)
    symptom, what, more = SYMPTOM_NAMES[played.symptom], played.what, played.more
    show, steps = Show(repr(chosen), "Step", played.total, played.sides), list[FaultFrame]()
    for step in played.steps:
        steps.append(step)
        yield what, show.add(_frame(step, symptom)), plot(None), more
    figure = symptom_figure(
        symptom,
        [(step.right.timestep, step.broken.timestep) for step in steps],
        [(step.right_symptom, step.broken_symptom) for step in steps],
    )
    said = " ".join(filter(None, (_result(symptom, steps[-1]), played.afterwards(steps[-1]))))
    yield what, show.end(said), plot(figure), more


@dataclass(frozen=True)
class Played:
    """Two runs, and what is said of them."""

    sides: list[Side]
    symptom: str
    total: int
    steps: Iterator[FaultFrame]
    what: Markup
    more: Markup
    afterwards: Callable[[FaultFrame], str] = lambda _last: ""
    """What else is said of the last step."""


def _put_in(library: Library, chosen: FaultSettings) -> Played:
    """A fault put into the checkpoint, or into the run that was trained to show it."""
    experiment = set_up(library.get(chosen.checkpoint), chosen.fault, chosen.denoiser)
    fault, checkpoint = experiment.fault, experiment.checkpoint
    subject = Subject.of(checkpoint, library.classifiers.get(checkpoint.dataset), chosen.seed)
    trained = ", trained to show this" if fault.lab_run else ""
    is_clipped = not fault.lab_run and clips_latents(checkpoint)
    right = "As it is, and clipped" if is_clipped else "Right"
    sides = [Side(f"{right}: {checkpoint.name}{trained}"), Side(f"Broken: {fault.title}")]
    what, more = _what_happens(fault), _more(fault, checkpoint, chosen.seed)
    if is_clipped:
        link = link_to_cause(CLIPPING, chosen.checkpoint, "See it beside the fix")
        what = html("<p><b>Neither side is right:</b> {}</p>{}{}", CLIPS_ITSELF, link, what)
    return Played(sides, fault.symptom, experiment.total, run_experiment(experiment, subject), what, more)


def _own(library: Library, chosen: FaultSettings) -> Played:
    """What a check finds in the checkpoint."""
    checkpoint = library.get(chosen.checkpoint)
    own = find_own_fault(checkpoint, chosen.cause, library.classifiers.get(checkpoint.dataset), chosen.seed)
    right = f"{checkpoint.name}, with the fix" if own.is_fixed else f"{own.beside.checkpoint.name}, a healthy run"
    sides = [Side(f"Right: {right}"), Side(f"Broken: {checkpoint.name}, as it is")]
    fix = html("<p><b>Fix:</b> <code>{}</code></p>", own.verdict.fix) if own.verdict.fix else ""
    what = html("<p><b>{}.</b> {}</p>{}", own.verdict.title, own.verdict.evidence, fix)
    more = html("<p>{}</p>", WITH_THE_FIX if own.is_fixed else NO_SETTING_FIXES_IT)
    total = own.experiment.total
    return Played(sides, own.experiment.fault.symptom, total, own.steps(), what, more, own.what_is_left)


def link_to_cause(cause: str, checkpoint: str, said: str) -> Markup:
    """To this room, with a checkpoint as the broken side and what a check found in it."""
    fault = fault_of(cause) or DEFAULT_FAULT
    query = {"room": NAME, "checkpoint": checkpoint, "fault": fault, "cause": cause}
    return html("<p>{}</p>", link_to(query, said))


def refused(library: Library, question: str, error: ValueError) -> tuple:
    """In the room's place why there is nothing to see, and for a fault of another path who has it."""
    link = _who_has_it(library, error) if isinstance(error, OtherPath) else ""
    return (
        html('<p role="alert">{}.</p>{}', as_sentence(str(error)), link),
        Show(question, "Step", 0, []).end(),
        plot(None),
        "",
    )


def _who_has_it(library: Library, error: OtherPath) -> Markup:
    """A link to a checkpoint that has the fault: the usual one, else the first, of the same images if there is one."""
    having = [item for item in library.checkpoints.values() if error.fault in faults_of(item)]
    usual, same = default_checkpoint(library), library.of_same_images(error.checkpoint.name)
    first = min(having, key=lambda item: (item.name not in same, item.name != usual), default=None)
    if first is None:
        return html("")
    query = {"room": NAME, "checkpoint": first.name, "fault": error.fault}
    said = f"See it on {first.name}, sampled along {first.sampled_along}"
    return html("<p>{}</p>", link_to(query, said))


def script(library: Library, chosen: FaultSettings) -> str:
    """The Python that makes both runs."""
    if chosen.cause:
        raise ValueError("there is no script of what was found in a model: its fix is the line to change")
    checkpoint = library.get(chosen.checkpoint)
    folder = short_path(checkpoint.folder, library.roots)
    return fault_script(checkpoint, folder, chosen.fault, chosen.seed, chosen.denoiser)


def _frame(step: FaultFrame, symptom: str) -> Frame:
    runs = ((step.right, step.right_symptom), (step.broken, step.broken_symptom))
    label = f"step {step.index} of {step.total}, t = {step.right.timestep:.0f}"
    return Frame(label, step.index, [_pictures(moment, f"{symptom}: {measured:.3g}") for moment, measured in runs])


def _pictures(moment: Moment, measured: str) -> list[Picture]:
    finite: Tensor = moment.z0[moment.z0.isfinite()]
    shown: list[Picture] = [
        Shot(grid(moment.predicted, columns=COLUMNS), measured, f"at t = {moment.timestep:.0f}", slot="result")
    ]
    return shown + [Histogram(finite, "values of z0", "line: normal distribution")] * bool(len(finite))


def _result(symptom: str, last: FaultFrame) -> str:
    return (
        f"In the end: {symptom} {last.right_symptom:.3g} in the right run, {last.broken_symptom:.3g} in the broken one."
    )


def _what_happens(fault: Fault) -> Markup:
    harmless = html(" <b>Next to harmless here.</b>") if fault.harmless else ""
    return html(
        "<p>{}{}</p><p><b>The line that fixes it:</b> <code>{}</code></p>", fault.what_happens, harmless, fault.fix
    )


def _more(fault: Fault, checkpoint: Checkpoint, seed: int) -> Markup:
    where = (
        html("It lies in the checkpoint's folder: <code>python -m ldm_explorer.diagnose FOLDER</code> can find it.")
        if fault.in_folder
        else "It lies in the code that calls the model, where no look at the folder can find it."
    )
    which = "a small run trained to show it" if fault.lab_run else "the checkpoint chosen"
    harmless = html("<p><b>Next to harmless here:</b> {}</p>", fault.harmless) if fault.harmless else ""
    shown = f"Shown on {checkpoint.name}, {which}, from seed {seed}. "
    return html("<p>{}{}</p>{}{}", shown, where, harmless, _losses(fault))


def _losses(fault: Fault) -> Markup:
    """What the losses of both runs say, for a fault of training."""
    if fault.broken_run is None:
        return html("<p>No training loss shows it: here it is put in after training.</p>")
    runs = {"Right": lab_checkpoint(fault.lab_run or ""), "Broken": lab_checkpoint(fault.broken_run)}
    said = (html("<li><b>{}:</b> {}</li>", which, read_loss(run).sentence()) for which, run in runs.items())
    return html("<p>What their losses say:</p><ul>{}</ul>", join(said))
