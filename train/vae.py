"""Train an autoencoder: `accelerate launch train/vae.py --max-minutes 30`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm_explorer.training.command_line import main_of
from ldm_explorer.training.drive import drive
from ldm_explorer.training.tasks.autoencoder import AutoencoderTraining, VAETrainConfig


def main(config: VAETrainConfig) -> None:
    drive(AutoencoderTraining(config))


if __name__ == "__main__":
    main_of(VAETrainConfig, main)
