"""What a run writes down while it trains: train_log.jsonl, its film, and a tracker where one is asked for."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from torch import Tensor

from ldm_explorer.film import FilmFrame, cut_film, strip_of, write_frame
from ldm_explorer.training.config import FitConfig
from ldm_explorer.training.loop import Step
from ldm_explorer.training.run_state import TrainLog
from ldm_explorer.training.trackers import log_picture, start_trackers


class Records:
    """Log, film and tracker of a run that goes on from a step, 0 for a new one. Only the main process writes."""

    def __init__(self, config: FitConfig, accelerator: Accelerator, run_dir: Path, step: int):
        self.config, self.accelerator, self.run_dir = config, accelerator, run_dir
        if accelerator.is_main_process:
            self.log = TrainLog(run_dir, step)
            cut_film(run_dir, step)

    def __enter__(self) -> "Records":
        if self.config.tracker:
            start_trackers(self.accelerator, asdict(self.config))
        return self

    def __exit__(self, *_) -> None:
        self.accelerator.end_training()

    def add(self, step: Step) -> None:
        """Log a step where a line is due; after a rollback, forget what came later than it."""
        if step.notice:
            self.log.go_back_to(step.step)
            cut_film(self.run_dir, step.step)
        if step.record:
            self.log.add(step.record)
            if self.config.tracker:
                numbers = {name: value for name, value in step.record.items() if not isinstance(value, list)}
                self.accelerator.log(numbers, step=step.step)

    def film(self, step: Step, images: Tensor) -> None:
        write_frame(self.run_dir, FilmFrame(step.step, images))
        if self.config.tracker:
            log_picture(self.accelerator, "film", np.repeat(strip_of(images), 3 // images.shape[1], axis=-1), step.step)
