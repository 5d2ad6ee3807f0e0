"""Tab: what does it look like when something is wrong?"""

import html
from dataclasses import dataclass

import gradio as gr
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER, DENOISERS
from ldm_explorer.diagnosis.faults import FAULTS, LAB, Fault
from ldm_explorer.diagnosis.reading import read_loss
from ldm_explorer.explore.lab import SYMPTOM_NAMES, LabFrame, Subject, run_experiment, set_up
from ldm_explorer.explore.library import Library
from ldm_explorer.figures.lab import symptom_figure
from ldm_explorer.ui.common import MODEL_QUEUE, SharedChoices, bind, opening
from ldm_explorer.ui.pictures import Picture, grid, picture_row

TITLE = "What does a fault look like?"
WHAT_TO_LOOK_AT = (
    "Pick a fault: the same noise goes through the right run and through the broken one. Compare the predictions step "
    "by step, and the one figure that gives the fault away; beside them stands the line that mends it."
)
CHOICES = [(fault.title, name) for name, fault in FAULTS.items()]
DEFAULT_FAULT = "clip_sample"


@dataclass(frozen=True)
class ShownFrame:
    """One step of both runs as it is kept for the slider."""

    right: Tensor
    broken: Tensor
    caption: str
    timestep: int
    right_symptom: float
    broken_symptom: float

    @classmethod
    def of(cls, frame: LabFrame) -> "ShownFrame":
        caption = f"step {frame.index} of {frame.total}, t = {frame.right.timestep}"
        pictures = grid(frame.right.predicted), grid(frame.broken.predicted)
        return cls(*pictures, caption, frame.right.timestep, frame.right_symptom, frame.broken_symptom)

    def html(self, symptom: str) -> str:
        pictures = [
            Picture(self.right, "Right", f"{self.caption}: {symptom} {self.right_symptom:.3g}"),
            Picture(self.broken, "Broken", f"{self.caption}: {symptom} {self.broken_symptom:.3g}"),
        ]
        return picture_row(pictures, layout="large")


@dataclass(frozen=True)
class Kept:
    """A finished run, for the slider."""

    symptom: str
    frames: list[ShownFrame]


def break_it(library: Library, checkpoint: str, seed: float, fault: str, denoiser: str):
    """Run a fault beside the right run; streams words and pictures as HTML, the slider, the plot, the kept frames."""
    experiment = set_up(library.get(checkpoint), fault, denoiser)
    subject = Subject.of(experiment.checkpoint, library.classifiers.get(experiment.checkpoint.dataset), int(seed))
    symptom, frames = SYMPTOM_NAMES[experiment.fault.symptom], []
    words = _words(experiment.fault, experiment.checkpoint)
    for frame in run_experiment(experiment, subject):
        frames.append(ShownFrame.of(frame))
        slider = gr.update(maximum=frame.total, value=frame.index)
        yield words, frames[-1].html(symptom), slider, gr.update(), Kept(symptom, frames)
    columns = ([getattr(frame, name) for frame in frames] for name in ("timestep", "right_symptom", "broken_symptom"))
    yield words, frames[-1].html(symptom), gr.update(), symptom_figure(symptom, *columns), Kept(symptom, frames)


def show_lab_step(library: Library, position: float, kept: Kept) -> str:
    """The pictures of one step of the last experiment, from 1, as HTML; nothing is sampled again."""
    if not kept or not kept.frames:
        raise ValueError("nothing was run yet: pick a fault first")
    return kept.frames[min(max(int(position), 1), len(kept.frames)) - 1].html(kept.symptom)


def _words(fault: Fault, checkpoint: Checkpoint) -> str:
    where = (
        "It lies in the checkpoint's folder: <code>python -m ldm_explorer.diagnose FOLDER</code> can find it."
        if fault.in_folder
        else "It lies in the code that calls the model, where no look at the folder can find it."
    )
    shown = f"Shown on the small run {checkpoint.name} of the lab. " if fault.lab_run else ""
    harmless = f"<p><b>Harmless here:</b> {html.escape(fault.harmless)}</p>" if fault.harmless else ""
    return (
        f"<h3>{html.escape(fault.title)}</h3><p>{html.escape(fault.what_happens)}</p>{harmless}"
        f"<p><b>The line that mends it:</b> <code>{html.escape(fault.mend)}</code></p><p>{shown}{where}</p>"
        f"{_losses(fault)}"
    )


def _losses(fault: Fault) -> str:
    """What the losses of both runs say, for a fault of training."""
    if fault.broken_run is None:
        return ""
    runs = {"Right": read_checkpoint(LAB / fault.lab_run), "Broken": read_checkpoint(LAB / fault.broken_run)}
    said = (f"<li><b>{which}:</b> {html.escape(read_loss(run).sentence())}</li>" for which, run in runs.items())
    return f"<p>What their losses say:</p><ul>{''.join(said)}</ul>"


def build(library: Library, shared: SharedChoices) -> None:
    """Lay out the tab inside the current Blocks."""
    if not library.names("ldm"):
        gr.Markdown("There is no denoiser among these checkpoints: train one with `accelerate launch train/ldm.py`.")
        return
    gr.Markdown(WHAT_TO_LOOK_AT)
    with gr.Row():
        fault = gr.Dropdown(CHOICES, value=DEFAULT_FAULT, label="Fault", scale=2)
        denoiser = gr.Dropdown(
            list(DENOISERS), value=DEFAULT_DENOISER, label="Denoiser", info="an exact one shows what is not its fault"
        )
    inputs = [shared.checkpoint, shared.seed, fault, denoiser]
    handler = bind(break_it, library)
    *_, (words, pictures, _, figure, kept) = opening(handler, inputs)
    last = len(kept.frames)
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            shown_words = gr.HTML(words)
            plot = gr.Plot(figure, show_label=False)
        with gr.Column(scale=3, min_width=320):
            shown_pictures = gr.HTML(pictures)
            position = gr.Slider(1, last, last, step=1, label="Step to look at", info="of both runs")
    state = gr.State(kept)
    gr.on(
        [component.change for component in inputs],
        handler,
        inputs,
        [shown_words, shown_pictures, position, plot, state],
        api_name="break_it",
        api_description=break_it.__doc__,
        trigger_mode="always_last",
        show_progress="hidden",
        **MODEL_QUEUE,
    )
    position.input(
        bind(show_lab_step, library),
        [position, state],
        shown_pictures,
        api_name="show_lab_step",
        api_description=show_lab_step.__doc__,
        trigger_mode="always_last",
        show_progress="hidden",
    )
