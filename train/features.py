"""Train the classifier in whose features distances are measured: `accelerate launch train/features.py`."""

import _checkout  # noqa: F401

from ldm_explorer.training.command_line import main_of
from ldm_explorer.training.drive import drive
from ldm_explorer.training.tasks.classifier import ClassifierTrainConfig, ClassifierTraining


def main(config: ClassifierTrainConfig) -> None:
    drive(ClassifierTraining(config))


if __name__ == "__main__":
    main_of(ClassifierTrainConfig, main)
