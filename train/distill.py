"""Distil a denoiser to a student of few evaluations: `accelerate launch train/distill.py --evaluations 4`."""

import _checkout  # noqa: F401

from ldm_explorer.training.command_line import main_of
from ldm_explorer.training.drive import drive
from ldm_explorer.training.tasks.student import StudentTraining
from ldm_explorer.training.tasks.student_config import DistillConfig


def main(config: DistillConfig) -> None:
    drive(StudentTraining(config))


if __name__ == "__main__":
    main_of(DistillConfig, main)
