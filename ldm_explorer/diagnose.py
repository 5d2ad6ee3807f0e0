"""What is wrong with a model? `ldm-diagnose FOLDER [--images DIR] [--json]`, or `python -m ldm_explorer.diagnose`.

The exit status is 0 for a healthy folder, 1 where something is accused, 2 for a folder that cannot be examined, 3 for
one that could not be judged: most checks that see the common faults could not run, or what it samples is spread wrongly
and no fault of the folder explains that.
`--log FILE` asks the same of the log of any training.
"""

import argparse
import json
import logging
import os
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusers.utils import logging as diffusers_logging

from ldm_explorer.diagnose_log import OUTCOMES, add_options, examine_log, log_card, snippet
from ldm_explorer.diagnosis.verdicts import OUT_OF_REACH, Diagnosis, by_reason
from ldm_explorer.explore.diagnosis import diagnose_folder
from ldm_explorer.files import first_line, printable
from ldm_explorer.image_folder import DataError

HEALTHY, ACCUSED, REFUSED, UNJUDGED = 0, 1, 2, 3
WIDTH = 110


def card(diagnosis: Diagnosis) -> str:
    """The diagnosis as text for a terminal."""
    parts = [_wrapped(diagnosis.sentence())]
    for number, cause in enumerate(diagnosis.causes, start=1):
        parts.append(f"\n{number}. {cause.title}\n" + _wrapped(cause.evidence, "   "))
        parts.append(_wrapped(f"Fix: {cause.fix}", "   "))
    symptoms = [f"{v.title} (follows from: {diagnosis.title_of_cause(v)})" for v in diagnosis.symptoms]
    not_run = by_reason(diagnosis.not_run)
    parts.append(_section("Also seen", symptoms))
    parts.append(_section("Passed", [f"{verdict.title}: {verdict.evidence}" for verdict in diagnosis.passed]))
    parts.append(_section("Not run", [f"{'; '.join(titles)}: {why}" for why, titles in not_run.items()]))
    parts.append(_section("Out of reach, because it lives in the code that calls a model", OUT_OF_REACH))
    return "\n".join(part for part in parts if part)


def _section(title: str, lines) -> str:
    return "\n".join([f"\n{title}", *(_wrapped(line, "   ", " - ") for line in lines)]) if lines else ""


def _wrapped(text: str, indent: str = "", first: str | None = None) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=first or indent, subsequent_indent=indent)


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """What is read of --images and what is left out is not for stdout, which may be read by a program."""
    logger, shown = logging.getLogger("ldm_explorer"), logging.StreamHandler()
    logger.addHandler(shown)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(shown)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ldm-diagnose", description="Find out why a model fails.")
    parser.add_argument(
        "folder", type=Path, nargs="?", help="a run, any folder of a diffusers model, or hf:owner/name[@revision]"
    )
    parser.add_argument("--images", type=Path, help="folder of images like those of its training; subfolders: classes")
    parser.add_argument("--dataset", help="name of the dataset that it was trained on, which names its classes")
    parser.add_argument("--json", action="store_true", help="print the diagnosis as JSON")
    add_options(parser)
    options = parser.parse_args(arguments)
    if options.snippet:
        return _print(snippet(), HEALTHY)
    if (options.folder is None) == (options.log is None):
        parser.error("give a folder, or a log with --log")
    if options.log is not None and (options.images is not None or options.dataset is not None):
        parser.error("--images and --dataset go with a folder: a log is judged without them")
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    try:
        if options.log is not None:
            reading = examine_log(options)
            said = json.dumps(reading.as_json(), indent=2) if options.json else log_card(reading)
            return _print(said, (HEALTHY, ACCUSED, UNJUDGED)[OUTCOMES.index(reading.outcome)])
        with _log_on_stderr():
            diagnosis = diagnose_folder(options.folder, options.images, options.dataset)
    except (ValueError, OSError, DataError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return REFUSED
    except Exception as error:  # whatever a file that nobody foresaw makes a reader raise
        what = printable(options.log or options.folder)
        said = f"{what} cannot be examined ({type(error).__name__}: {first_line(error)})"
        print(f"error: {said}", file=sys.stderr)
        return REFUSED
    said = json.dumps(diagnosis.as_json(), indent=2) if options.json else card(diagnosis)
    return _print(said, {True: HEALTHY, False: ACCUSED, None: UNJUDGED}[diagnosis.is_healthy])


def _print(text: str, status: int) -> int:
    """The status, once the text is out; a reader that has seen enough of it, as `head` has, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python flushes once more as it ends
    return status


if __name__ == "__main__":
    sys.exit(main())
