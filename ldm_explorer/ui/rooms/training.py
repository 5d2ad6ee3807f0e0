"""Room: what did training learn?"""

import hashlib
from collections.abc import Iterator

import gradio as gr

from ldm_explorer.explore.library import Library
from ldm_explorer.explore.training_moments import Moment, moment_at, moments_of
from ldm_explorer.explore.training_run import PER_BIN, VALIDATION, RunReport, find_runs, known_run, read_run, span_of
from ldm_explorer.explore.training_words import describe, in_words, last_heard, status, why_not_comparable
from ldm_explorer.figures.loss import drawn_floors, timestep_figure
from ldm_explorer.figures.training import training_figure
from ldm_explorer.ui import settings
from ldm_explorer.ui.anyones_log import TITLE as LOG_TITLE
from ldm_explorer.ui.anyones_log import build_log_reader
from ldm_explorer.ui.curve import Curve
from ldm_explorer.ui.html import Markup, html, join
from ldm_explorer.ui.loss_curve import floor_facts, loss_curve
from ldm_explorer.ui.loss_lesson import show_lesson
from ldm_explorer.ui.pictures import grid
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.settings import Settings
from ldm_explorer.ui.stage import Frame, Shot, Show, Side, plot, stage

NAME = "training"
TITLE = "Training"
QUESTION = "What did training learn?"
WORK = LIGHT
WHAT_TO_LOOK_AT = (
    "A loss means something only beside a floor: the error of a denoiser that knows no more than the latents' scale "
    "(white), or their mean and covariance (Gaussian), of each class where the network is told the class; the lowest "
    "is that of one that knows every training image (memorising; measured on 128 of them, so some percent off where it "
    "rises). In the map, blue is where the network is below the Gaussian floor: at which timesteps, "
    "and since when. A run that is still going is read again every few seconds."
)
WHAT_THE_FILM_SHOWS = (
    "The pictures come from the same noise, denoised by the network as it was early and late in its training. Noise "
    "first turns into a blur of the mean, then into outlines, last into folds, straps and soles."
)
OTHER_LOGS = f"Any other log of it can be read below: “{LOG_TITLE}”."


class TrainingSettings(Settings):
    """A run, finished or still going, or a case in its place."""

    run: settings.Run
    case: settings.Case = ""


SETTINGS = TrainingSettings


def build(library: Library) -> list[gr.components.Component]:
    shown = [stage()]
    with gr.Row():
        with gr.Column(scale=3, min_width=320, elem_classes="ldm-follow"):
            shown.append(gr.Plot(show_label=False, visible=False))
        with gr.Column(scale=2, min_width=320):
            shown.append(gr.Plot(show_label=False, visible=False))
    with gr.Accordion("What this shows", open=False):
        shown.append(gr.HTML(elem_classes="ldm-words"))
    build_log_reader(library)
    return shown


def stamp(library: Library, chosen: TrainingSettings, beside: TrainingSettings | None) -> str:
    """Another one when a run has more to tell, or was last heard of longer ago."""
    runs = find_runs(library)
    known = [
        (run.stamp(), last_heard(run)) for name in _names(chosen, beside) if (run := known_run(library, runs, name))
    ]
    return hashlib.sha256(repr((chosen, beside, known)).encode()).hexdigest()[:16]


def answer(library: Library, chosen: TrainingSettings, beside: TrainingSettings | None) -> Iterator[tuple]:
    """Every moment of a run's training in pictures and beside its floors, the log of it and of another one."""
    if chosen.case:
        lesson, *figures, words = show_lesson(repr(chosen))
        yield lesson, *map(plot, figures), words
        return
    names, now, runs = _names(chosen, beside), stamp(library, chosen, beside), find_runs(library)
    going = any(run is not None and not run.finished for run in (known_run(library, runs, name) for name in names))
    show = Show(repr((chosen, beside)), "Moment", 0, [], stamp=now if going else "")
    try:
        reports = [read_run(library, name) for name in names]
    except ValueError as error:  # in place of the pictures: a run that has just begun has nothing yet, and soon will
        yield show.end(f"{error}.{'' if going else f' {OTHER_LOGS}'}"), plot(None), plot(None), ""
        return
    moments = moments_of(reports[0])
    show.total, show.sides = len(moments), [Side(in_words(report.run)) for report in reports]
    show.open_at = None if going else (len(moments) - 1) // 2
    for moment in moments:
        show.add(_frame(reports, moment))
    drawn = tuple(report for report in reports if report.is_autoencoder == reports[0].is_autoencoder)
    per_timestep = timestep_figure(drawn, drawn[0].records[-1]["images"]) if PER_BIN in drawn[0].fields else None
    yield show.end(_sentence(reports)), plot(training_figure(drawn)), plot(per_timestep), _words(reports[0])


def _names(chosen: TrainingSettings, beside: TrainingSettings | None) -> list[str]:
    return list(dict.fromkeys(side.run for side in (chosen, beside) if side))


def _frame(reports: list[RunReport], moment: Moment) -> Frame:
    """A moment of the first run, and of the other one when it had seen as many images."""
    moments = [moment, *(moment_at(report, moment.images) for report in reports[1:])]
    pairs = list(zip(reports, moments, strict=True))
    return Frame(
        f"step {moment.step:,}, {moment.images:,} images",
        moment.images,
        [_pictures(report, moment) for report, moment in pairs],
        [_facts(report, moment) for report, moment in pairs],
    )


def _pictures(report: RunReport, moment: Moment) -> list[Shot | Curve]:
    training, validation = report.curve("loss"), report.curve(VALIDATION)
    caption = f"{moment.source}{': ' if moment.knows else ''}{moment.knows}"
    curve = loss_curve(
        (training.images, training.values),
        (validation.images, validation.values),
        _floors(report),
        span_of(report),
        (moment.images, moment.loss),
        caption,
    )
    if moment.shot is None:
        return [curve]
    caption = f"after {moment.step:,} steps, always from one noise"
    return [Shot(grid(moment.shot.images), "What it generated", caption, slot="result"), curve]


def _floors(report: RunReport) -> dict[str, float]:
    return {name: report.mean_floors[name] for name in drawn_floors(report)}


def _facts(report: RunReport, moment: Moment) -> list[tuple[str, str]]:
    facts = [(moment.source, f"{moment.loss:.3g}"), *floor_facts(_floors(report))]
    if (of_the_teacher := moment.record.get("validation_teacher_loss")) is not None:
        facts.append(("its teacher in as few steps", f"{of_the_teacher:.3g}"))
    if "validation_psnr_db" in moment.record:
        best = max(report.curve("validation_psnr_db").values)
        facts.append(("PSNR on held-out images", f"{moment.record['validation_psnr_db']:.1f} dB, best {best:.1f}"))
    return facts


def _sentence(reports: list[RunReport]) -> str:
    said = [" ".join(filter(None, (status(report), describe(report)))) for report in reports]
    if len(reports) == 2:
        named = [f"{report.run.name}: {text}" for report, text in zip(reports, said, strict=True)]
        said = [*named, why_not_comparable(*reports)]
    return "\n".join(filter(None, said))


def _words(report: RunReport) -> Markup:
    said = [WHAT_TO_LOOK_AT]
    if report.film:
        said += [WHAT_THE_FILM_SHOWS, f"Row by row: {', '.join(report.film[-1].titles)}."]
    return join(html("<p>{}</p>", text) for text in said)
