"""Train a denoiser on the latents of an autoencoder: `accelerate launch train/ldm.py`."""

import _checkout  # noqa: F401

from ldm_explorer.training.command_line import main_of
from ldm_explorer.training.drive import drive
from ldm_explorer.training.tasks.denoiser import DenoiserTraining, LDMTrainConfig


def main(config: LDMTrainConfig) -> None:
    drive(DenoiserTraining(config))


if __name__ == "__main__":
    main_of(LDMTrainConfig, main)
