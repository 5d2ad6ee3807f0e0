"""Make a checkpoint of a denoiser's saved state: `python train/export_state.py runs/fashion_mnist/RUN --out FOLDER`.

For looking at a run that is not finished: what it has learned so far, by its weights as they are or by their average.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import _checkout  # noqa: F401
import tyro

from ldm_explorer.training.command_line import main_of
from ldm_explorer.training.export_state import Weights, export_state


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Options of train/export_state.py."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a run of train/ldm.py that holds a state."""
    out: Path
    """Folder to write."""
    weights: Weights = "average"
    """The moving average of the weights, or the weights of the last step."""


def main(config: ExportConfig) -> None:
    export_state(config.run, config.out, config.weights)
    print(f"wrote {config.out}")


if __name__ == "__main__":
    main_of(ExportConfig, main)
