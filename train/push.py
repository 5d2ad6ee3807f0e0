"""Push a finished run to the Hugging Face Hub: `python train/push.py runs/fashion_mnist/RUN OWNER/NAME`.

Trainings do it themselves with --push-to-hub OWNER/NAME. Only what the run wrote goes up; a new repository is private.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import _checkout  # noqa: F401
import tyro

from ldm_explorer.training.command_line import main_of
from ldm_explorer.training.push import push


@dataclass(frozen=True, kw_only=True)
class PushConfig:
    """Options of train/push.py."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    repository: Annotated[str, tyro.conf.Positional]
    """OWNER/NAME on the Hub."""


def main(config: PushConfig) -> None:
    print(f"pushed {config.run} to {push(config.run, config.repository)}")


if __name__ == "__main__":
    main_of(PushConfig, main)
