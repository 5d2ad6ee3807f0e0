"""Tab: what does it look like when something is wrong?"""

import gradio as gr

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER, DENOISERS
from ldm_explorer.diagnosis.faults import FAULTS, Fault, lab_checkpoint
from ldm_explorer.diagnosis.reading import read_loss
from ldm_explorer.explore.lab import SYMPTOM_NAMES, LabFrame, Subject, run_experiment, set_up
from ldm_explorer.explore.library import Library
from ldm_explorer.figures.lab import symptom_figure
from ldm_explorer.ui.common import SharedChoices, bind, opening
from ldm_explorer.ui.frames import frame, show_by_slider
from ldm_explorer.ui.html import Markup, html, join
from ldm_explorer.ui.pictures import Picture, grid, picture_row
from ldm_explorer.ui.server.work import LONG

TITLE = "What does a fault look like?"
WHAT_TO_LOOK_AT = (
    "Pick a fault: the same noise goes through the right run and through the broken one. Compare the predictions step "
    "by step, and the one measure that gives the fault away; beside them stands the line that fixes it."
)
CHOICES = [(fault.title, name) for name, fault in FAULTS.items()]
DEFAULT_FAULT = "clip_sample"
STEPS = "fault-steps"


def break_it(library: Library, checkpoint: str, seed: float, fault: str, denoiser: str):
    """Run a fault beside the right run; streams words, the pictures of all steps so far as HTML, the slider over them,
    the plot, and what was run."""
    experiment = set_up(library.get(checkpoint), fault, denoiser)
    subject = Subject.of(experiment.checkpoint, library.classifiers.get(experiment.checkpoint.dataset), int(seed))
    symptom, timesteps, symptoms, pictures = SYMPTOM_NAMES[experiment.fault.symptom], [], [], join(())
    words, inputs = _words(experiment.fault, experiment.checkpoint, int(seed)), (checkpoint, seed, fault, denoiser)
    for step in run_experiment(experiment, subject):
        timesteps.append((step.right.timestep, step.broken.timestep))
        symptoms.append((step.right_symptom, step.broken_symptom))
        pictures += frame(_pictures(step, symptom))
        yield words, pictures, gr.update(maximum=step.total, value=step.index), gr.update(), inputs
    yield words, pictures, gr.update(), symptom_figure(symptom, timesteps, symptoms), inputs


def _pictures(step: LabFrame, symptom: str) -> Markup:
    runs = (("Right", step.right, step.right_symptom), ("Broken", step.broken, step.broken_symptom))
    pictures = [
        Picture(
            grid(moment.predicted),
            title,
            f"step {step.index} of {step.total}, t = {moment.timestep}: {symptom} {value:.3g}",
        )
        for title, moment, value in runs
    ]
    return picture_row(pictures, layout="large")


def catch_up(library: Library, checkpoint: str, seed: float, fault: str, denoiser: str, ran: tuple):
    """Run the experiment again where the tab is opened and another checkpoint or seed was chosen since."""
    if ran == (checkpoint, seed, fault, denoiser):
        yield gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip()
        return
    yield from break_it(library, checkpoint, seed, fault, denoiser)


def _words(fault: Fault, checkpoint: Checkpoint, seed: int) -> Markup:
    where = (
        html("It lies in the checkpoint's folder: <code>python -m ldm_explorer.diagnose FOLDER</code> can find it.")
        if fault.in_folder
        else "It lies in the code that calls the model, where no look at the folder can find it."
    )
    which = "a small run of the lab" if fault.lab_run else "the checkpoint above"
    harmless = html("<p><b>Next to harmless here:</b> {}</p>", fault.harmless) if fault.harmless else ""
    return html(
        "<h3>{title}</h3><p>{what_happens}</p>{harmless}<p><b>The line that fixes it:</b> <code>{fix}</code></p>"
        "<p>{shown}{where}</p>{losses}",
        title=fault.title,
        what_happens=fault.what_happens,
        harmless=harmless,
        fix=fault.fix,
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
    handler = bind(break_it, library, LONG)
    *_, (_, _, slider, _, _), (words, pictures, _, figure, ran) = opening(handler, inputs)
    last = slider["maximum"]
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            shown_words = gr.HTML(words)
            plot = gr.Plot(figure, show_label=False)
        with gr.Column(scale=3, min_width=320):
            shown_pictures = gr.HTML(pictures, elem_id=STEPS)
            position = gr.Slider(1, last, last, step=1, label="Step to look at", info="of both runs")
    state = gr.State(ran)
    shown = [shown_words, shown_pictures, position, plot, state]
    options = {"trigger_mode": "always_last", "show_progress": "minimal", "show_progress_on": shown_pictures}
    gr.on(
        [fault.change, denoiser.change],
        handler,
        inputs,
        shown,
        api_name="break_it",
        api_description=break_it.__doc__,
        **options,
    )
    tab.select(bind(catch_up, library, LONG), [*inputs, state], shown, api_visibility="private", **options)
    show_by_slider(position, STEPS)
