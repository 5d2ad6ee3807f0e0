"""Tab: what does it look like when something is wrong?"""

from dataclasses import dataclass

import gradio as gr
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER, DENOISERS
from ldm_explorer.diagnosis.faults import FAULTS, Fault, lab_checkpoint
from ldm_explorer.diagnosis.reading import read_loss
from ldm_explorer.explore.lab import SYMPTOM_NAMES, LabFrame, Subject, run_experiment, set_up
from ldm_explorer.explore.library import Library
from ldm_explorer.figures.lab import symptom_figure
from ldm_explorer.ui.common import MODEL_QUEUE, SharedChoices, bind, opening
from ldm_explorer.ui.html import Markup, html, join
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
    timesteps: tuple[int, int]  # of the right and of the broken run
    symptoms: tuple[float, float]

    @classmethod
    def of(cls, frame: LabFrame) -> "ShownFrame":
        return cls(
            grid(frame.right.predicted),
            grid(frame.broken.predicted),
            f"step {frame.index} of {frame.total}",
            (frame.right.timestep, frame.broken.timestep),
            (frame.right_symptom, frame.broken_symptom),
        )

    def html(self, symptom: str) -> Markup:
        rows = zip(("Right", "Broken"), (self.right, self.broken), self.timesteps, self.symptoms, strict=True)
        pictures = [
            Picture(image, title, f"{self.caption}, t = {timestep}: {symptom} {figure:.3g}")
            for title, image, timestep, figure in rows
        ]
        return picture_row(pictures, layout="large")


@dataclass(frozen=True)
class Kept:
    """The last experiment, for the slider."""

    inputs: tuple
    symptom: str
    frames: list[ShownFrame]


def break_it(library: Library, checkpoint: str, seed: float, fault: str, denoiser: str):
    """Run a fault beside the right run; streams words and pictures as HTML, the slider, the plot, the kept frames."""
    experiment = set_up(library.get(checkpoint), fault, denoiser)
    subject = Subject.of(experiment.checkpoint, library.classifiers.get(experiment.checkpoint.dataset), int(seed))
    symptom, frames = SYMPTOM_NAMES[experiment.fault.symptom], []
    words, inputs = _words(experiment.fault, experiment.checkpoint, int(seed)), (checkpoint, seed, fault, denoiser)
    for frame in run_experiment(experiment, subject):
        frames.append(ShownFrame.of(frame))
        slider = gr.update(maximum=frame.total, value=frame.index)
        yield words, frames[-1].html(symptom), slider, gr.update(), Kept(inputs, symptom, frames)
    figure = symptom_figure(symptom, [frame.timesteps for frame in frames], [frame.symptoms for frame in frames])
    yield words, frames[-1].html(symptom), gr.update(), figure, Kept(inputs, symptom, frames)


def catch_up(library: Library, checkpoint: str, seed: float, fault: str, denoiser: str, kept: Kept):
    """Run the experiment again where the tab is opened and another checkpoint or seed was chosen since."""
    if kept.inputs == (checkpoint, seed, fault, denoiser):
        yield gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip()
        return
    yield from break_it(library, checkpoint, seed, fault, denoiser)


def show_lab_step(library: Library, position: float, kept: Kept) -> Markup:
    """The pictures of one step of the last experiment, from 1, as HTML; nothing is sampled again."""
    if not kept or not kept.frames:
        raise ValueError("nothing was run yet: pick a fault first")
    return kept.frames[min(max(int(position), 1), len(kept.frames)) - 1].html(kept.symptom)


def _words(fault: Fault, checkpoint: Checkpoint, seed: int) -> Markup:
    where = (
        html("It lies in the checkpoint's folder: <code>python -m ldm_explorer.diagnose FOLDER</code> can find it.")
        if fault.in_folder
        else "It lies in the code that calls the model, where no look at the folder can find it."
    )
    which = "a small run of the lab" if fault.lab_run else "the checkpoint above"
    harmless = html("<p><b>Next to harmless here:</b> {}</p>", fault.harmless) if fault.harmless else ""
    return html(
        "<h3>{title}</h3><p>{what_happens}</p>{harmless}<p><b>The line that mends it:</b> <code>{mend}</code></p>"
        "<p>{shown}{where}</p>{losses}",
        title=fault.title,
        what_happens=fault.what_happens,
        harmless=harmless,
        mend=fault.mend,
        shown=f"Shown on {checkpoint.name}, {which}, from seed {seed}. ",
        where=where,
        losses=_losses(fault),
    )


def _losses(fault: Fault) -> Markup | str:
    """What the losses of both runs say, for a fault of training."""
    if fault.broken_run is None:
        return ""
    runs = {"Right": lab_checkpoint(fault.lab_run), "Broken": lab_checkpoint(fault.broken_run)}
    said = (html("<li><b>{}:</b> {}</li>", which, read_loss(run).sentence()) for which, run in runs.items())
    return html("<p>What their losses say:</p><ul>{}</ul>", join(said))


def build(library: Library, shared: SharedChoices) -> None:
    """Lay out the tab inside the current Blocks."""
    if not library.names("ldm"):
        gr.Markdown("There is no denoiser among these checkpoints: train one with `accelerate launch train/ldm.py`.")
        return
    tab = gr.Markdown(WHAT_TO_LOOK_AT).parent
    with gr.Row():
        fault = gr.Dropdown(CHOICES, value=DEFAULT_FAULT, label="Fault", scale=2, min_width=300)
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
    shown = [shown_words, shown_pictures, position, plot, state]
    options = {"trigger_mode": "always_last", "show_progress": "hidden", **MODEL_QUEUE}
    gr.on(
        [fault.change, denoiser.change],
        handler,
        inputs,
        shown,
        api_name="break_it",
        api_description=break_it.__doc__,
        **options,
    )
    tab.select(bind(catch_up, library), [*inputs, state], shown, api_visibility="private", **options)
    position.input(
        bind(show_lab_step, library),
        [position, state],
        shown_pictures,
        api_name="show_lab_step",
        api_description=show_lab_step.__doc__,
        trigger_mode="always_last",
        show_progress="hidden",
    )
