"""Train an autoencoder: `accelerate launch train/vae.py --max-minutes 30`."""

import _checkout  # noqa: F401

from ldm_explorer.training.command_line import main_of
from ldm_explorer.training.drive import drive
from ldm_explorer.training.tasks.autoencoder import AutoencoderTraining, VAETrainConfig


def main(config: VAETrainConfig) -> None:
    drive(AutoencoderTraining(config))


if __name__ == "__main__":
    main_of(VAETrainConfig, main)
