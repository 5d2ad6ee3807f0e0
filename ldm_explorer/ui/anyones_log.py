"""The log of any training, in the training room: uploaded or pasted, its loss between its floors, and what to try."""

from pathlib import Path
from typing import Any

import gradio as gr

from ldm_explorer.diagnosis.latent_facts import SNIPPET
from ldm_explorer.diagnosis.log_reading import LogReading, Outcome
from ldm_explorer.explore.anyones_log import Known, diagnose_log
from ldm_explorer.explore.library import Library
from ldm_explorer.figures.anyones_log import log_figure
from ldm_explorer.figures.loss import FLOOR_LABELS
from ldm_explorer.prediction import PREDICTION_TYPES
from ldm_explorer.schedules import DEFAULT_NUM_TIMESTEPS, FLOW, MAX_NUM_TIMESTEPS, SCHEDULES
from ldm_explorer.ui.answers import bind
from ldm_explorer.ui.files import accept_uploads_alone
from ldm_explorer.ui.html import Markup, html, join, table
from ldm_explorer.ui.server.limits import MAX_LOG_BYTES, MAX_PASTED_CHARACTERS

TITLE = "Read the loss of any training"
NOT_KNOWN = "not known"
INTRODUCTION = (
    "A file of TensorBoard, W&B, CSV, JSON or JSONL, a `trainer_state.json`, or any text with “loss: 0.34” in it. What "
    "a loss means depends on the schedule, on what is predicted and on the latents: what you leave out is said."
)
MEASURE = f"""What to write into “Latents”: this prints it, of any latents as the denoiser sees them. A std alone
is `(latents - latents.mean(0)).std()`, as a network knows the mean image with no effort: that of `latents.std()` is
larger, and its floors too high.

```python
{SNIPPET}
print_facts(latents)
```
"""
KINDS: dict[Outcome, tuple[str, str]] = {
    "nothing found": ("right", "✓ Nothing found"),
    "accused": ("wrong", "✗ Not as it should be"),
    "could not judge": ("", "? Could not judge"),
}


def read_log(
    _library: Library,
    file: str | None,
    pasted: str,
    schedule: str,
    num_timesteps: float,
    prediction: str,
    latents: str,
    betas: str,
    divide_by: float,
    min_snr: float,
    batch_size: float,
) -> tuple[Markup, Any]:
    """The verdict on an uploaded or pasted log as HTML, and its figure. Raises `ValueError` as one sentence."""
    known = Known(
        schedule="" if schedule == NOT_KNOWN else schedule,
        betas=betas,
        num_timesteps=int(num_timesteps) or None,
        prediction="" if prediction == NOT_KNOWN else prediction,
        latents=latents,
        min_snr=min_snr or None,
        divide_by=divide_by,
        batch_size=int(batch_size) or None,
    )
    if not file and not pasted.strip():
        raise ValueError("there is no log: give a file, or paste its text")
    reading = diagnose_log(_small(Path(file)) if file else pasted, known)
    says_something = len(reading.curve.judged) > 1 or bool(reading.mean_floors)
    return verdict(reading), gr.update(value=log_figure(reading) if says_something else None, visible=says_something)


def _small(path: Path) -> Path:
    """An upload that may be read in the server's time. Raises `ValueError` for a larger one, or one that is gone."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ValueError("the log is no longer there: give it again") from error
    if size > MAX_LOG_BYTES:
        raise ValueError(
            f"the log has {size / 1e6:.1f} MB, the app reads {MAX_LOG_BYTES / 1e6:g}: `ldm-diagnose --log` reads more"
        )
    return path


def verdict(reading: LogReading) -> Markup:
    """What the log says, what to try, and what would give its plateau where a fact is missing."""
    kind, title = KINDS[reading.outcome]
    said = html("<p><b>{}</b></p><p>{}</p>", title, reading.sentence)
    parts = [html('<div class="ldm-verdict {}" role="status">{}</div>', kind, said)]
    if reading.to_try:
        parts.append(html("<p>To try:</p><ul>{}</ul>", join(html("<li>{}</li>", item) for item in reading.to_try)))
    floors = [(FLOOR_LABELS.get(name, "zero floor"), f"{value:.4g}") for name, value in reading.mean_floors.items()]
    if floors:
        parts.append(table(("known of the latents", "mean loss"), floors))
    if reading.explanations:
        meaning = (
            "It is what the scale of the latents alone gives, where their std is as here; a larger one means more."
        )
        parts.append(html("<p>{}</p>", meaning))
        parts.append(table(("schedule", "T", "predicts", "std"), _explained(reading)))
    curve = reading.curve
    notes = (f"{curve.judged.name} of {curve.log.name}, read as {curve.log.format}", *reading.notes)
    return join([*parts, html("<p>{}.</p>", "; ".join(notes))])


def _explained(reading: LogReading) -> list[tuple[str, ...]]:
    return [
        (one.schedule, f"{one.num_timesteps:,}", one.prediction_type, f"{one.std:.2f}") for one in reading.explanations
    ]


def build_log_reader(library: Library) -> None:
    """Lay it out in the current Blocks, closed."""
    with gr.Accordion(TITLE, open=False, elem_classes="ldm-fold"):
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            file = gr.File(label="Log", height=120, min_width=240)
            pasted = gr.Textbox(
                "", label="or its text", lines=4, max_lines=8, max_length=MAX_PASTED_CHARACTERS, scale=2, min_width=300
            )
        accept_uploads_alone(file)
        with gr.Row():
            schedule = gr.Dropdown([NOT_KNOWN, *SCHEDULES, FLOW], value=NOT_KNOWN, label="Trained along", min_width=140)
            length = gr.Number(
                DEFAULT_NUM_TIMESTEPS,
                label="of how many timesteps, 0 if not known",
                minimum=0,
                maximum=MAX_NUM_TIMESTEPS,
                precision=0,
            )
            prediction = gr.Dropdown([NOT_KNOWN, *PREDICTION_TYPES], value=NOT_KNOWN, label="Predicts", min_width=140)
            latents = gr.Textbox(
                "",
                label="Latents: std about the mean image, or what the code below prints",
                max_length=20_000,
                max_lines=1,
            )
        with gr.Accordion("Own betas, and how the loss was averaged", open=False), gr.Row():
            betas = gr.Textbox("", label="All betas, in place of a name", max_length=60_000, max_lines=1)
            divide_by = gr.Number(1, label="Divide the loss by", minimum=1e-6, maximum=1e12)
            gamma = gr.Number(0, label="min-SNR gamma, 0 for none", minimum=0, maximum=1000)
            batch = gr.Number(0, label="Batch size, 0 if not known", minimum=0, maximum=1_000_000, precision=0)
        button = gr.Button("Read the log")
        answer, plot = gr.HTML(padding=False), gr.Plot(show_label=False, visible=False)
        gr.Markdown(MEASURE)
    button.click(
        bind(read_log, library),
        [file, pasted, schedule, length, prediction, latents, betas, divide_by, gamma, batch],
        [answer, plot],
        api_visibility="private",  # programs have `ldm-diagnose --log FILE --json`
        show_progress="hidden",
    )
