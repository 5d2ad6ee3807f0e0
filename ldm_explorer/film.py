"""The film of a run: samples from fixed seeds at milestones of its training, each frame one lossless WebP strip."""

import io
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ldm_explorer.files import printable
from ldm_explorer.pictures.picture import read_picture
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import FILM

FRAMES = f"{FILM}/step-*.webp"
_FRAME = re.compile(rf"{FILM}/step-([0-9]{{9,12}})\.webp")
MAX_FRAMES = 64
MAX_PIXELS, MAX_PIXELS_EACH = 100_000_000, 8_400_000
MAX_IMAGES = 1000


@dataclass(frozen=True)
class FilmFrame:
    """What the averaged network generated after `step` steps: `(B, C, side, side) uint8`, always from one noise."""

    step: int
    images: Tensor


def is_milestone(step: int, total_steps: int | None) -> bool:
    """Whether a frame is due: after 1, 2, 4, 8, ... steps and after the last."""
    return step > 0 and (step & (step - 1) == 0 or step == total_steps)


def film_files(max_steps: int | None) -> tuple[str, ...]:
    """The names of the frames that a training of at most so many steps may write; None for a number not known yet."""
    steps = {1 << power for power in range(32)} | {max_steps or 1}
    return tuple(_file(step) for step in sorted(steps) if step <= (max_steps or step))


def _file(step: int) -> str:
    return f"{FILM}/step-{step:09d}.webp"


def strip_of(images: Tensor) -> np.ndarray:
    """Images `(B, C, side, side) uint8` beside each other, `(side, B side, C)`."""
    return torch.cat(list(images.cpu()), dim=-1).permute(1, 2, 0).numpy()


def write_frame(run_dir: Path, frame: FilmFrame) -> None:
    """Write one frame, whole or not at all, in place of an earlier one of that step."""
    strip = strip_of(frame.images)
    content = io.BytesIO()
    Image.fromarray(strip[..., 0] if strip.shape[-1] == 1 else strip).save(content, "WEBP", lossless=True, quality=100)
    RunFolder(run_dir).write_bytes(_file(frame.step), content.getvalue())


def read_film(run_dir: Path, channels: int) -> tuple[FilmFrame, ...]:
    """The frames of a run in the order of its training, () without a film; other files beside them do not count.

    Raises `ValueError` for a broken one, and for more or larger frames than a training writes.
    """
    paths = sorted(islice(RunFolder(run_dir).find(FRAMES, _FRAME), MAX_FRAMES + 1), key=_step)
    if len(paths) > MAX_FRAMES:
        raise ValueError(f"{printable(run_dir)}/{FILM} holds more than {MAX_FRAMES} frames, which no training writes")
    frames, pixels_left = [], MAX_PIXELS
    for path in paths:
        frames.append(_read(path, channels, min(MAX_PIXELS_EACH, pixels_left)))
        pixels_left -= frames[-1].images[:, 0].numel()
    return tuple(frames)


def cut_film(run_dir: Path, step: int) -> None:
    """Delete the frames after `step`, to which a run goes back."""
    run = RunFolder(run_dir)
    run.remove(name for name in run.names if (frame := _FRAME.fullmatch(name)) and int(frame[1]) > step)


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _read(path: Path, channels: int, max_pixels: int) -> FilmFrame:
    strip = read_picture(path, channels, ("WEBP",), max_pixels)
    _, side, width = strip.shape
    if width % side or width > side * MAX_IMAGES:
        raise ValueError(
            f"{printable(path)} is no strip of squares, {MAX_IMAGES:,} at most: it has {width} x {side} pixels"
        )
    return FilmFrame(_step(path), torch.stack(strip.split(side, dim=-1)))
