"""What a run's loss says: the curve beside its floors, and one sentence."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.diagnosis.floors import LossFloors, loss_floors
from ldm_explorer.prediction import PredictionType


@dataclass(frozen=True)
class LossReading:
    """The loss of one denoiser over training, and what it would be if the network knew only so much."""

    prediction_type: PredictionType
    images: tuple[int, ...]
    loss: tuple[float, ...]  # mean squared error, without the weights that training may have given the timesteps
    validation_images: tuple[int, ...]
    validation_loss: tuple[float, ...]
    validation_per_bin: tuple[float, ...]  # of the last validation, equal bins over 0..T-1
    floors: dict[str, Tensor]  # (T,) each: zero, white, gaussian, and with labels gaussian_per_class

    @property
    def validation_minimum(self) -> float:
        return min(self.validation_loss)

    @property
    def validation_last_tenth(self) -> float:
        """Mean of the last tenth of the validations."""
        tail = self.validation_loss[-max(1, len(self.validation_loss) // 10) :]
        return sum(tail) / len(tail)

    @property
    def mean_floors(self) -> dict[str, float]:
        """Each floor averaged over all timesteps."""
        return {name: float(floor.mean()) for name, floor in self.floors.items()}

    def floors_per_bin(self) -> dict[str, list[float]]:
        """Each floor averaged over the bins of `validation_per_bin`, equal parts of 0..T-1."""
        bins = len(self.validation_per_bin)
        index = torch.arange(len(self.floors["white"])) * bins // len(self.floors["white"])
        return {
            name: [float(floor[index == bin_].mean()) for bin_ in range(bins)] for name, floor in self.floors.items()
        }

    def sentence(self) -> str:
        """What this loss shows the network has learned."""
        loss, floors = self.validation_last_tenth, self.mean_floors
        gaussian = floors.get("gaussian_per_class", floors["gaussian"])
        whose = "the Gaussian floor of its class" if "gaussian_per_class" in floors else "the Gaussian floor"
        if self.validation_last_tenth > 1.02 * self.validation_minimum:
            return (
                f"The validation loss rose again, from {self.validation_minimum:.3f} to {loss:.3f}: "
                "the network started to memorise or training became unstable."
            )
        if loss < 0.98 * gaussian:
            return (
                f"The validation loss ended at {loss:.3f}, {1 - loss / gaussian:.0%} below {whose} ({gaussian:.3f}): "
                "the network has learned structure that means and covariances do not hold."
            )
        if loss < 0.98 * floors["white"]:
            return (
                f"The validation loss ended at {loss:.3f}, between {whose} ({gaussian:.3f}) and the white floor "
                f"({floors['white']:.3f}): so far the network knows less than the latents' covariance does."
            )
        return (
            f"The validation loss ended at {loss:.3f}, no better than the white floor ({floors['white']:.3f}): "
            "the network knows the scale of the latents at most. Train longer, or look for an error."
        )


def read_loss(checkpoint: Checkpoint) -> LossReading:
    """Read a run's log. Raises `ValueError` when it holds no validation or the run's metrics no eigenvalues."""
    log = checkpoint.log()
    validations = [line for line in log if "validation_loss_per_bin" in line]
    eigenvalues = checkpoint.metrics.get("training", {}).get("covariance_eigenvalues")
    if not validations or not eigenvalues:
        raise ValueError(
            f"{checkpoint.name} has no readable loss: train_log.jsonl holds no validation, or metrics.json no "
            "covariance eigenvalues of its latents; train/ldm.py writes both"
        )
    pipeline = checkpoint.pipeline
    prediction_type = pipeline.scheduler.config.prediction_type

    def floors_of(name: str) -> LossFloors:
        return loss_floors(prediction_type, pipeline.scheduler.alphas_cumprod, torch.tensor(eigenvalues[name]))

    floors = vars(floors_of("all"))
    if pipeline.null_class is not None:
        of_classes = [floors_of(name).gaussian for name in eigenvalues if name != "all"]
        floors = floors | {"gaussian_per_class": torch.stack(of_classes).mean(0)}
    return LossReading(
        prediction_type=prediction_type,
        images=tuple(line["images"] for line in log),
        loss=tuple(line.get("mse", line["loss"]) for line in log),
        validation_images=tuple(line["images"] for line in validations),
        validation_loss=tuple(line["validation_loss"] for line in validations),
        validation_per_bin=tuple(validations[-1]["validation_loss_per_bin"]),
        floors=floors,
    )
