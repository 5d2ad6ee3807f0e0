"""Tab: what did training learn?"""

import gradio as gr

from ldm_explorer.explore.library import Library
from ldm_explorer.explore.training_run import PER_BIN, RunReport, find_runs, read_run
from ldm_explorer.explore.training_words import describe, describe_moment, status, why_not_comparable
from ldm_explorer.figures.loss import timestep_figure
from ldm_explorer.figures.training import training_figure
from ldm_explorer.ui.common import SharedChoices, answer_changes, bind, opening
from ldm_explorer.ui.html import Markup, html, join
from ldm_explorer.ui.pictures import Picture, grid, picture_row

TITLE = "What did training learn?"
WHAT_TO_LOOK_AT = (
    "A loss means something only beside a **floor**: the error of a denoiser that knows no more than the latents' "
    "scale (white), or their mean and covariance (Gaussian). See at which timesteps the network gets below it (blue in "
    "the map) and when, and move through the training to see what it could do at each moment. A run that is still "
    "going is read again every few seconds."
)
NONE = "none"
REFRESH_SECONDS = 5


def plot_loss(library: Library, run: str, beside: str):
    """What the log of a run says, with that of another beside it or "none": sentences as HTML, a Plotly figure of
    everything logged, the slider over the moments of its training, the last one in words and pictures and per
    timestep."""
    return _open(library, run, beside, position=None)


def show_moment(library: Library, run: str, beside: str, position: float):
    """One moment of a run's training, from 1: a Plotly figure of its log with a line there, the moment in words and in
    the film's pictures as HTML, and a Plotly figure of the validation loss per timestep."""
    return _moment(_drawn(_read(library, run, beside)), int(position))


def refresh(library: Library, run: str, beside: str, position: float, seen: tuple):
    """Look again; only what has changed is answered, and a slider that stood at the last moment goes along with it."""
    now = _look(library, run, beside)
    labels, stamps, moments = seen
    names = [gr.skip(), gr.skip()]
    if now[0] != labels:
        names = [gr.update(choices=choices) for choices in _choices(library, run, beside)]
    if now[1] != stamps:
        return *names, *_open(library, run, beside, None if position >= moments else int(position))
    sentences, *rest = _open(library, run, beside, int(position))
    return *names, sentences, *(gr.skip() for _ in rest[:-1]), (*now, moments)


def follow(library: Library, checkpoint: str, beside: str):
    """The run of the checkpoint that was chosen for all tabs, among those that are there now."""
    runs, others = _choices(library, checkpoint, beside)
    return gr.update(choices=runs, value=checkpoint), gr.update(choices=others)


def _look(library: Library, *names: str) -> tuple:
    """The labels of all runs, and a stamp of each shown one that changes with what there is to read."""
    runs = find_runs(library)
    labels = tuple(run.label for run in runs.values())
    return labels, tuple(runs[name].stamp() for name in names if name in runs)


def _choices(library: Library, run: str, beside: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Labels and names for the two dropdowns; a chosen run that is gone stays, and says so."""
    runs = [(run.label, name) for name, run in find_runs(library).items()]
    gone = [(f"{name} (gone)", name) for name in (run, beside) if name not in (NONE, *(name for _, name in runs))]
    return runs + gone, [(NONE, NONE), *runs, *gone]


def _read(library: Library, run: str, beside: str) -> tuple[RunReport, ...]:
    if run == NONE:
        raise ValueError("Run is none: give the name of a run")
    return tuple(read_run(library, name) for name in dict.fromkeys((run, beside)) if name != NONE)


def _drawn(reports: tuple[RunReport, ...]) -> tuple[RunReport, ...]:
    """An autoencoder and a denoiser have no plot in common: the first one stands alone then."""
    return tuple(report for report in reports if report.is_autoencoder == reports[0].is_autoencoder)


def _open(library: Library, run: str, beside: str, position: int | None) -> tuple:
    """Everything that the tab shows, at a moment or at the last one; one sentence in its place where that fails."""
    runs = find_runs(library)
    timer = gr.Timer(active=any(name in runs and not runs[name].finished for name in (run, beside)))
    seen = _look(library, run, beside)
    try:
        reports = _read(library, run, beside)
    except ValueError as error:
        hidden = gr.update(value=None, visible=False)
        nothing = [hidden, gr.update(maximum=2, value=1, visible=False), "", hidden]
        return html("<p>{}.</p>", error), *nothing, timer, (*seen, 0)
    moments = len(reports[0].moments)
    position = moments if position is None else min(position, moments)
    figure, moment, per_timestep = _moment(_drawn(reports), position)
    slider = gr.update(maximum=max(2, moments), value=max(1, position), visible=moments > 0)
    return _sentences(reports), figure, slider, moment, per_timestep, timer, (*seen, moments)


def _sentences(reports: tuple[RunReport, ...]) -> Markup:
    said = [" ".join(filter(None, (status(report), describe(report)))) for report in reports]
    if len(reports) == 2:
        named = [html("<b>{}</b>: {}", report.run.name, text) for report, text in zip(reports, said, strict=True)]
        said = list(filter(None, (*named, why_not_comparable(*reports))))
    return join(html("<p>{}</p>", text) for text in said)


def _moment(reports: tuple[RunReport, ...], position: int) -> tuple:
    """The figure over training, words and pictures as HTML, and the figure per timestep."""
    report = reports[0]
    per_timestep = gr.update(value=None, visible=False)
    if not report.moments:
        return gr.update(value=training_figure(reports, None), visible=True), "", per_timestep
    index = min(max(position, 1), len(report.moments)) - 1
    step = report.moments[index]
    images = report.images_at(step)
    if PER_BIN in report.fields:
        per_timestep = gr.update(value=timestep_figure(reports, images), visible=True)
    pictures = [
        Picture(grid(shot.images), "What it generated", f"always from one noise: {', '.join(shot.titles)}")
        for shot in report.film[index : index + 1]
    ]
    figure = gr.update(value=training_figure(reports, images), visible=True)
    return figure, picture_row(pictures, describe_moment(report, step), "large"), per_timestep


def build(library: Library, shared: SharedChoices) -> None:
    """Lay out the tab inside the current Blocks."""
    gr.Markdown(WHAT_TO_LOOK_AT)
    runs, others = _choices(library, shared.checkpoint.value, NONE)
    with gr.Row():
        run = gr.Dropdown(
            runs, value=shared.checkpoint.value, label="Run", info="follows the checkpoint above", min_width=220
        )
        beside = gr.Dropdown(
            others, value=NONE, label="Beside it", info="a second run in the same plots", min_width=220
        )
        again = gr.Button("Look for new runs", size="sm", min_width=160, scale=0)
    names = [run, beside]
    first = opening(bind(plot_loss, library), names)
    shown = _build_shown(*first[:-2])
    position = shown[2]
    timer, seen = gr.Timer(REFRESH_SECONDS), gr.State(first[-1])  # the first tick finds what came since the app started
    shown += [timer, seen]
    answer_changes(bind(plot_loss, library), names, shown, "plot_loss")
    position.input(
        bind(show_moment, library),
        [*names, position],
        [shown[1], *shown[3:5]],
        api_name="show_moment",
        api_description=show_moment.__doc__,
        trigger_mode="always_last",
        show_progress="hidden",
    )
    looking = {"inputs": [*names, position, seen], "outputs": [*names, *shown], "api_visibility": "private"}
    timer.tick(bind(refresh, library), **looking, show_progress="hidden")
    again.click(bind(refresh, library), **looking)
    shared.checkpoint.change(
        bind(follow, library), [shared.checkpoint, beside], names, api_visibility="private", show_progress="hidden"
    )


def _build_shown(sentences: Markup, figure: dict, slider: dict, moment: Markup, per_timestep: dict) -> list:
    """Sentences, and below them the log on the left and a moment of it on the right."""
    words = gr.HTML(sentences, elem_classes="ldm-words")
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            over_training = _plot(figure)
        with gr.Column(scale=2, min_width=320):
            options = {name: slider[name] for name in ("maximum", "value", "visible")}
            position = gr.Slider(1, step=1, label="Moment of training", **options)
            pictures = gr.HTML(moment)
            shown = [words, over_training, position, pictures, _plot(per_timestep)]
    return shown


def _plot(figure: dict) -> gr.Plot:
    return gr.Plot(figure["value"], visible=figure["visible"], show_label=False, min_width=320)
