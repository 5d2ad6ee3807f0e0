"""A loss over training, written as the usual tools write it."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

Points = Sequence[tuple[int, float]]
"""Step, from 1 on, and loss of that step's batch."""


def averaged(points: Points, every: int) -> list[tuple[int, float]]:
    """The mean since the last line, as a trainer logs it."""
    groups = [points[place : place + every] for place in range(0, len(points), every)]
    return [(group[-1][0], fmean(loss for _, loss in group)) for group in groups]


def write_csv(folder: Path, points: Points) -> Path:
    """Every step, as CSV."""
    return _table(folder / "loss.csv", ["step", "loss"], points)


def write_wandb_csv(folder: Path, points: Points) -> Path:
    """What W&B's page exports of one plot: the mean and its bounds, named after the run."""
    name = "wise-snow-7 - train/loss"
    rows = [(step, loss, loss, loss) for step, loss in points[::10]]
    return _table(folder / "wandb_export.csv", ["Step", name, f"{name}__MIN", f"{name}__MAX"], rows)


def write_tensorboard_csv(folder: Path, points: Points) -> Path:
    """What TensorBoard's page exports of one plot."""
    rows = [(1.7e9 + step, step, loss) for step, loss in points[::4]]
    return _table(folder / "run-train-tag-loss.csv", ["Wall time", "Step", "Value"], rows)


def write_jsonl(folder: Path, points: Points) -> Path:
    """A record every tenth step."""
    lines = [json.dumps({"global_step": step, "loss": loss, "lr": 1e-3}) for step, loss in points[::10]]
    return _text(folder / "log.jsonl", "\n".join(lines))


def write_history_json(folder: Path, points: Points) -> Path:
    """What W&B's API gives of a run's history."""
    rows = [{"_step": step, "_runtime": step / 10, "train/loss": loss, "epoch": 0} for step, loss in points[::5]]
    return _text(folder / "history.json", json.dumps(rows))


def write_trainer_state(folder: Path, points: Points) -> Path:
    """trainer_state.json of transformers' Trainer: means over 25 steps, and one over all of training at the end."""
    history = [
        {"epoch": step / 100, "learning_rate": 1e-4, "loss": loss, "step": step} for step, loss in _mean25(points)
    ]
    total = {"train_loss": fmean(loss for _, loss in points), "step": points[-1][0], "train_runtime": 9.5}
    return _text(
        folder / "trainer_state.json", json.dumps({"global_step": points[-1][0], "log_history": [*history, total]})
    )


def write_progress_bars(folder: Path, points: Points) -> Path:
    """A terminal with tqdm's bars, redrawn in place, three digits of the loss."""
    total = points[-1][0]
    bars = [
        f"Steps: {step / total:4.0%}|####    | {step}/{total} [00:12<01:10, 31.55it/s, loss={loss:.3g}, lr=0.0001]"
        for step, loss in points[::4]
        for _ in range(2)
    ]
    return _text(folder / "terminal.log", "\r".join(bars))


def write_epochs(folder: Path, points: Points) -> Path:
    """A line per epoch of 40 steps, between other lines."""
    lines = [
        f"Epoch {number}: train loss {loss:.4f}, lr 1.0e-04" for number, (_, loss) in enumerate(averaged(points, 40))
    ]
    return _text(folder / "epochs.txt", "loading data ...\nusing cpu\n" + "\n".join(lines))


def write_printed_records(folder: Path, points: Points) -> Path:
    """What transformers prints: a Python dict per line."""
    return _text(
        folder / "printed.log",
        "\n".join(f"{{'loss': {loss:.4f}, 'epoch': {step / 100:.2f}}}" for step, loss in _mean25(points)),
    )


def write_events(folder: Path, points: Points) -> Path:
    """A TensorBoard folder."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for step, loss in points[::5]:
            writer.add_scalar("train/loss", loss, step)
            writer.add_scalar("train/lr", 1e-3, step)
    return folder / "tensorboard"


def _mean25(points: Points) -> list[tuple[int, float]]:
    return averaged(points, 25)


def _table(path: Path, head: list[str], rows: Sequence[tuple]) -> Path:
    written = io.StringIO()
    csv.writer(written).writerows([head, *rows])
    return _text(path, written.getvalue())


def _text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


FORMATS: dict[str, Callable[[Path, Points], Path]] = {
    "CSV": write_csv,
    "W&B CSV": write_wandb_csv,
    "TensorBoard CSV": write_tensorboard_csv,
    "JSONL": write_jsonl,
    "W&B JSON": write_history_json,
    "trainer_state": write_trainer_state,
    "progress bars": write_progress_bars,
    "epochs": write_epochs,
    "printed dicts": write_printed_records,
    "TensorBoard": write_events,
}
