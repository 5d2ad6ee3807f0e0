"""`ldm-diagnose --log FILE`: what the log of any training says, as text for a terminal."""

import argparse
import json
import sys
import textwrap
from pathlib import Path

from ldm_explorer.atomic import write_text
from ldm_explorer.diagnosis.latent_facts import SNIPPET
from ldm_explorer.diagnosis.log_reading import LogReading, Outcome
from ldm_explorer.explore.anyones_log import Known, diagnose_log, reference_lines, span
from ldm_explorer.files import MAX_JSON_BYTES, CheckpointError, first_line, printable, read_bytes
from ldm_explorer.logs.events import write_scalars
from ldm_explorer.logs.reading import MAX_LOG_BYTES
from ldm_explorer.options import as_path
from ldm_explorer.prediction import PREDICTION_TYPES
from ldm_explorer.schedules import FLOW, SCHEDULES

OUTCOMES: tuple[Outcome, ...] = ("nothing found", "accused", "could not judge")
WIDTH = 110
TEXT_SUFFIXES = (".json", ".csv", ".tsv", ".txt")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of a log, in a group of their own."""
    group = parser.add_argument_group(
        "a log in place of a folder", "what a loss means depends on these facts; what is missing is said"
    )
    group.add_argument(
        "--log",
        type=Path,
        help="TensorBoard file or folder, CSV, JSON, JSONL, .wandb, trainer_state.json, or text; - reads it",
    )
    group.add_argument("--field", default="", help="the field that is the denoising loss, where another is taken")
    group.add_argument("--schedule", default="", help=f"{', '.join((*SCHEDULES, FLOW))}, or as diffusers names them")
    group.add_argument("--timesteps", type=int, help="T, the number of training timesteps")
    group.add_argument("--beta-start", type=float, help="of the schedule, where not the usual one")
    group.add_argument("--beta-end", type=float, help="the same")
    group.add_argument("--betas", default="", help="all betas with commas between them, or a file that holds them")
    group.add_argument(
        "--prediction", default="", help=f"{', '.join(PREDICTION_TYPES)} (u = eps - z0, with --schedule flow alone)"
    )
    group.add_argument(
        "--latents",
        default="",
        help="their std about the mean image, (z - z.mean(0)).std(), not that of all values; one number, or one per "
        "channel; or what --snippet prints, which tells the two apart; or a file that holds either",
    )
    group.add_argument("--min-snr", type=float, help="gamma, where the timesteps have min-SNR weights")
    group.add_argument("--divide-by", type=float, default=1.0, help="where the loss is a sum over so many numbers")
    group.add_argument("--batch-size", type=int, help="tells what a loss is a sum over")
    group.add_argument("--write-floors", type=Path, help="FILE.jsonl, or a folder for TensorBoard: reference lines")
    group.add_argument("--snippet", action="store_true", help="print the code that measures latents, and end")


def examine_log(options: argparse.Namespace) -> LogReading:
    """The reading that the options ask for, its floors written where they say. Raises `ValueError`, `OSError`."""
    known = Known(
        schedule=options.schedule,
        betas=_text_or_file(options.betas),
        num_timesteps=options.timesteps,
        beta_start=options.beta_start,
        beta_end=options.beta_end,
        prediction=options.prediction,
        latents=_text_or_file(options.latents),
        min_snr=options.min_snr,
        divide_by=options.divide_by,
        batch_size=options.batch_size,
        field=options.field,
    )
    log = as_path(options.log, "a log").expanduser()
    reading = diagnose_log(sys.stdin.read(MAX_LOG_BYTES + 1) if str(log) == "-" else log, known)
    if options.write_floors:
        write_floors(reading, options.write_floors)
    return reading


def _text_or_file(given: str) -> str:
    """What is given, or what the file of that name holds."""
    try:
        path = Path(given).expanduser()
        if not given or len(given) >= 1000 or not path.is_file():
            return given
        text = read_bytes(path, MAX_JSON_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{printable(given)} cannot be read: {first_line(error)}") from error
    if not text.strip():
        raise CheckpointError(f"{printable(given)} is empty: give a file that holds what the option names")
    return text


def write_floors(reading: LogReading, place: Path) -> None:
    """Reference lines as lines of JSON, or as TensorBoard's scalars where the place is no .jsonl file."""
    lines = reference_lines(reading)
    is_text = place.suffix == ".jsonl"
    if not is_text and (place.is_file() or place.suffix in TEXT_SUFFIXES):
        raise CheckpointError(f"--write-floors is {printable(place)}: give a name that ends in .jsonl, or a folder")
    levels = {name.replace("/", "-"): level for name, level in lines[0].items() if name != "step"}
    try:
        if is_text:
            write_text(place, "".join(json.dumps(line) + "\n" for line in lines))
        else:
            write_scalars(place, reading.curve.judged.name, levels, span(reading))
    except OSError as error:
        raise CheckpointError(f"{printable(place)} cannot be written: {error.strerror}") from error


def log_card(reading: LogReading) -> str:
    """The answer as text for a terminal."""
    floors = [f"{name.replace('_', ' ')}: {value:.4g}" for name, value in reading.mean_floors.items()]
    parts = [
        textwrap.fill(reading.sentence, WIDTH),
        _section(
            f"Read {reading.curve.judged.name} of {reading.curve.log.name} ({reading.curve.log.format})", [], True
        ),
        _section("Floors", floors),
        _section("To try", reading.to_try),
        _section("Notes", reading.notes),
        _section("It would show the scale of the latents alone, if", _explained(reading)),
    ]
    if reading.facts.missing and reading.outcome == "could not judge":
        parts.append("\n--snippet prints code that measures the latents; --schedule, --timesteps, --prediction: --help")
    return "\n".join(part for part in parts if part)


def _explained(reading: LogReading) -> list[str]:
    said = []
    for one in reading.explanations:
        line = f"{one.schedule}, T = {one.num_timesteps:,}, predicts {one.prediction_type}: std {one.std:.2f}"
        if one.white is not None:
            shows = "" if one.rung is None else f", and this shows {one.rung.name.lower().replace('_', ' ')}"
            line += f" (with the known std its white floor is {one.white:.3f}{shows})"
        said.append(line)
    return said


def _section(title: str, lines, bare: bool = False) -> str:
    filled = [textwrap.fill(line, WIDTH, initial_indent=" - ", subsequent_indent="   ") for line in lines]
    return "\n".join([f"\n{title}", *filled]) if lines or bare else ""


def snippet() -> str:
    """The code that measures latents."""
    return f"{SNIPPET}\nprint_facts(latents)"
