"""What programs may ask beside what the rooms show: checkpoints, a formula, stored measures, a loss, a diagnosis."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from ldm_explorer.explore.diagnosis import diagnose_checkpoint
from ldm_explorer.explore.few_evaluations import read_few_evaluations
from ldm_explorer.explore.formula import Trial, Verdict, check_formula
from ldm_explorer.explore.formula_syntax import MAX_CHARACTERS, QUANTITIES
from ldm_explorer.explore.latent_size import latent_size
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.size_measures import read_measures
from ldm_explorer.explore.training_run import RunReport, find_runs, read_run
from ldm_explorer.explore.training_words import describe
from ldm_explorer.explore.velocity import schedule_of
from ldm_explorer.ui import settings
from ldm_explorer.ui.server.work import LIGHT, LONG, Work
from ldm_explorer.ui.settings import OfCheckpoint, Settings


class Nothing(Settings):
    """Nothing to choose."""


class OfCheckpoints(Settings):
    """Several checkpoints, all where none is named."""

    checkpoints: Annotated[
        tuple[settings.Name, ...], Field(title="Checkpoints", description="their names; all where none is given")
    ] = ()


class OfRun(Settings):
    """A run, finished or not."""

    run: Annotated[settings.Name, Field(title="Run", description="the name of a checkpoint, or of a run beside them")]


class OfFormula(Settings):
    """A formula, and along whose schedule it is tried."""

    formula: Annotated[str, Field(title="Formula", description="like eps = (v + b*z0) / a", max_length=MAX_CHARACTERS)]
    quantity: Annotated[
        str, Field(title="Formula for", description=f"{', '.join(QUANTITIES)}: unless the formula says so")
    ] = "eps"
    checkpoint: settings.Checkpoint


@dataclass(frozen=True)
class Endpoint:
    """One question: the parts of a room (see `answers.Room`) without its looks. `ask` gives values for JSON."""

    NAME: str
    QUESTION: str
    SETTINGS: type[Settings]
    ask: Callable[[Library, Any], Any]
    WORK: Work = LIGHT

    def answer(self, library: Library, chosen: Any, _beside: Any | None) -> Iterator[tuple]:
        yield (self.ask(library, chosen),)


def _checkpoints(library: Library, _: Nothing) -> list[dict[str, Any]]:
    return [
        {"name": item.name, "kind": item.kind, "dataset": item.dataset, "classes": list(item.spec.class_names)}
        | {"latent": latent_size(item).shape}
        for item in library.checkpoints.values()
    ]


def _runs(library: Library, _: Nothing) -> list[dict[str, Any]]:
    return [{"name": name, "finished": run.finished} for name, run in find_runs(library).items()]


def _formula(library: Library, chosen: OfFormula) -> dict[str, Any]:
    verdict: Verdict = check_formula(chosen.formula, chosen.quantity, schedule_of(library.get(chosen.checkpoint))[0])
    return {
        "formula": str(verdict.formula),
        "right": verdict.right,
        "proven": verdict.proven,
        "sentence": verdict.sentence(),
        "wrong_terms": [asdict(term) for term in verdict.wrong_terms],
        "counter_example": _trial(verdict.counter_example),
    }


def _trial(trial: Trial | None) -> dict[str, Any] | None:
    if trial is None:
        return None
    given = None if trial.given is None else float(trial.given)
    known = {"t": trial.t, "s": trial.s, "z0": trial.z0, "eps": trial.eps} | trial.letters()
    return known | {"given": given, "needed": float(trial.needed)}


def _sizes(library: Library, chosen: OfCheckpoints) -> list[dict[str, Any]]:
    return [
        {"name": item.name, "latent": item.size.shape, "values": item.size.values, "kl_weight": item.kl_weight}
        | {"sampler": item.sampler, "evaluations": item.evaluations, "measures": item.measures}
        for item in read_measures(library, chosen.checkpoints or library.names())
    ]


def _loss(library: Library, chosen: OfRun) -> dict[str, Any]:
    report: RunReport = read_run(library, chosen.run)
    curves = {name: report.curve(name) for name in ("loss", "validation_loss") if name in report.fields}
    return {
        "run": report.run.name,
        "finished": report.run.finished,
        "sentence": describe(report),
        "prediction_type": report.prediction_type,
        "mean_floors": report.mean_floors,
        "why_no_floors": "" if report.floors else report.why_no_floors,
        "curves": {name: {"images": curve.images, "values": curve.values} for name, curve in curves.items()},
    }


def _diagnosis(library: Library, chosen: OfCheckpoint) -> dict[str, Any]:
    *_, whole = diagnose_checkpoint(library.get(chosen.checkpoint))
    return whole.as_json()


def _few_evaluations(library: Library, chosen: OfCheckpoint) -> dict[str, Any]:
    measured = read_few_evaluations(library.get(chosen.checkpoint), library.checkpoints)
    if measured is None:
        raise ValueError(
            f"this was not measured for {chosen.checkpoint}: run train/evaluate.py --few-evaluations on it"
        )
    return asdict(measured)


ENDPOINTS = (
    Endpoint("checkpoints", "Which checkpoints are there, and what are they?", Nothing, _checkpoints),
    Endpoint("runs", "Which trainings are there, finished or not?", Nothing, _runs),
    Endpoint(
        "check_formula", "Is a formula for z0, eps, v, u, z_t or z_s right, and if not, why?", OfFormula, _formula
    ),
    Endpoint("size_measures", "What was measured of checkpoints?", OfCheckpoints, _sizes),
    Endpoint(
        "few_evaluations_measures",
        "How far are samples from real images, after how many evaluations?",
        OfCheckpoint,
        _few_evaluations,
    ),
    Endpoint("loss", "How did the loss of a run go on, and what would it be if the network knew less?", OfRun, _loss),
    Endpoint("diagnose", "What is wrong with a checkpoint, why, and what fixes it?", OfCheckpoint, _diagnosis, LONG),
)
"""What they read may change on disk: nothing of it is kept."""
