"""What a run's loss says: the curve beside its floors, and one sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes
from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.diagnosis.conclusion import conclusion
from ldm_explorer.diagnosis.floors import loss_floors
from ldm_explorer.diagnosis.judge import MeanFloors, Rung, judge, last_tenth, rose_again
from ldm_explorer.diagnosis.statistics import LatentStatistics, read_statistics
from ldm_explorer.options import check_kind
from ldm_explorer.prediction import PredictionType
from ldm_explorer.run_files import LogRecord
from ldm_explorer.run_layout import LOG_FILE, STATISTICS_FILE

CLOSED = 0.1
"""A share of the gap closed under this counts as none."""

NO_GAP_YET = (
    "How far it is from there to a network that knows every training image is not known yet: that floor is measured "
    "when the training ends, and of a checkpoint without it by `python train/latents.py`."
)
WIDE = 0.1
"""A gap narrower than this share of the Gaussian floor says nothing: there is next to nothing to be learned there."""


@dataclass(frozen=True)
class LossReading:
    """The loss of one denoiser over training, and what it would be if the network knew only so much."""

    prediction_type: PredictionType
    images: tuple[int, ...]
    loss: tuple[float, ...]  # mean squared error, without the weights that training may have given the timesteps
    validation_images: tuple[int, ...]
    validation_loss: tuple[float, ...]
    validation_bins: tuple[tuple[float, ...], ...]  # of every validation, equal bins over 0..T-1
    conditional: bool
    floors: dict[str, Tensor]
    """`(T,)` each: zero, white, gaussian, memorising; gaussian_per_class, memorising_per_class. As long as the training
    goes on the memorising ones are not there."""

    @property
    def validation_per_bin(self) -> tuple[float, ...]:
        """The last validation loss in its bins."""
        return self.validation_bins[-1]

    @property
    def validation_minimum(self) -> float:
        return min(self.validation_loss)

    @property
    def validation_last_tenth(self) -> float:
        """Mean of the last tenth of the validations."""
        return last_tenth(self.validation_loss)

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

    def floor_named(self, knows: str) -> str:
        """ "gaussian" or "memorising" as this network can know it: per class where it is told the class."""
        return f"{knows}_per_class" if self.conditional else knows

    @property
    def gap_is_known(self) -> bool:
        """Whether the memorising floor, at which the gap ends, is there."""
        return "memorising" in self.floors

    @property
    def gap_closed(self) -> float:
        """(Gaussian - loss) / (Gaussian - memorising): 0 knows the covariance alone, 1 the whole training set.

        Raises `KeyError` where the gap is not known.
        """
        floors = self.mean_floors
        return _share(
            self.validation_last_tenth, floors[self.floor_named("gaussian")], floors[self.floor_named("memorising")]
        )

    @property
    def gap_closed_per_bin(self) -> tuple[float | None, ...]:
        """The same for every bin of the last validation; None where the two floors are nearly one.

        Raises as `gap_closed` does.
        """
        floors = self.floors_per_bin()
        columns = (
            self.validation_per_bin,
            floors[self.floor_named("gaussian")],
            floors[self.floor_named("memorising")],
        )
        return tuple(
            _share(loss, gaussian, memorising) if gaussian - memorising > WIDE * gaussian else None
            for loss, gaussian, memorising in zip(*columns, strict=True)
        )

    @property
    def rung(self) -> Rung:
        """How much of its latents this loss shows the network to know."""
        return judge(self.validation_last_tenth, mean_floors(self.floors))

    def sentence(self) -> str:
        """What this loss shows the network has learned."""
        hopeless = self.rung in (Rung.NOTHING_TO_LEARN, Rung.NOTHING)
        if not hopeless and rose_again(self.validation_loss):
            return (
                f"The validation loss rose again, from {self.validation_minimum:.3f} to "
                f"{self.validation_last_tenth:.3f}: the network started to memorise or training became unstable."
            )
        return f"The validation loss ended at {self.validation_last_tenth:.3f}, {self._conclusion()}"

    def _conclusion(self) -> str:
        said = conclusion(self.rung, mean_floors(self.floors), self.conditional)
        return f"{said} {self._gap_sentence()}" if self.rung is Rung.MORE_THAN_COVARIANCE else said

    def _gap_sentence(self) -> str:
        if not self.gap_is_known:
            return NO_GAP_YET
        shares = self.gap_closed_per_bin
        edges = [round(len(self.floors["white"]) * index / len(shares)) for index in range(len(shares) + 1)]
        said = f"It closed {self.gap_closed:.0%} of the gap from there to a network that knows every training image"
        known = [share for share in shares if share is not None]
        if known and max(known) >= CLOSED:
            best = shares.index(max(known))
            said += f", most ({shares[best]:.0%}) where t is {_span(edges, (best, best))}"
        where = [_span(edges, run) for run in _runs([share is not None and share < CLOSED for share in shares])]
        said += f", next to none where t is {' and '.join(where)}" if where else ""
        where = [_span(edges, run) for run in _runs([share is None for share in shares])]
        return f"{said}; where t is {' and '.join(where)} there is no gap to close." if where else f"{said}."


def _share(loss: float, gaussian: float, memorising: float) -> float:
    return (gaussian - loss) / (gaussian - memorising)


def _runs(flags: list[bool]) -> list[tuple[int, int]]:
    """First and last index of every run of True."""
    before, after = [False, *flags], [*flags, False]
    edges = [index for index in range(len(flags) + 1) if before[index] != after[index]]
    return [(first, last - 1) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def _span(edges: list[int], run: tuple[int, int]) -> str:
    return f"{edges[run[0]]} to {edges[run[1] + 1] - 1}"


def floors_of(
    statistics: LatentStatistics, prediction_type: PredictionType, alpha_bars: Tensor | Amplitudes, conditional: bool
) -> dict[str, Tensor]:
    """Every floor `(T,)` of a network over these latents, with those per class where it is told the class."""
    floors = dict(vars(loss_floors(prediction_type, alpha_bars, statistics.eigenvalues, statistics.channel_variances)))
    spectra = statistics.class_eigenvalues if conditional else None
    if spectra is not None:
        of_classes = [loss_floors(prediction_type, alpha_bars, own).gaussian for own in spectra]
        floors["gaussian_per_class"] = torch.stack(of_classes).mean(0)
    if statistics.memorising is not None:
        floors["memorising"] = statistics.memorising_floor(prediction_type, alpha_bars)
        if spectra is not None:
            floors["memorising_per_class"] = statistics.memorising_floor(prediction_type, alpha_bars, of_classes=True)
    return floors


def mean_floors(floors: dict[str, Tensor]) -> MeanFloors:
    """What `floors_of` gives, as a loss over all timesteps is judged by it."""
    gaussian = floors.get("gaussian_per_class", floors["gaussian"])
    zero, white, known = (float(floor.mean()) for floor in (floors["zero"], floors["white"], gaussian))
    return MeanFloors(zero, white, known, float(floors["memorising"].mean()) if "memorising" in floors else None)


def reading_of(log: Sequence[LogRecord], prediction_type: PredictionType, floors: dict[str, Tensor]) -> LossReading:
    """Read the lines of a train_log.jsonl beside the floors. Raises `ValueError` when no validation is among them."""
    validations = [line for line in log if line.keys() >= {"images", "validation_loss", "validation_loss_per_bin"}]
    trained = [line for line in log if "images" in line and ("loss" in line or "mse" in line)]  # others only validate
    if not validations:
        raise ValueError(f"{LOG_FILE} holds no validation loss yet")
    return LossReading(
        prediction_type=prediction_type,
        images=tuple(line["images"] for line in trained),
        loss=tuple(line["mse"] if "mse" in line else line["loss"] for line in trained),
        validation_images=tuple(line["images"] for line in validations),
        validation_loss=tuple(line["validation_loss"] for line in validations),
        validation_bins=tuple(tuple(line["validation_loss_per_bin"]) for line in validations),
        conditional="gaussian_per_class" in floors,
        floors=floors,
    )


def read_loss(checkpoint: Checkpoint) -> LossReading:
    """Read a denoiser's log.

    Raises `ValueError` when it holds no validation or the folder no statistics of its latents, and `CheckpointError`
    for an autoencoder alone.
    """
    check_kind(checkpoint, Checkpoint, "what read_checkpoint returns")
    if checkpoint.teacher:
        raise ValueError(
            f"{checkpoint.name} is a student: its loss is its distance to the steps of {checkpoint.teacher}, which no "
            "floor of a denoiser's bounds"
        )
    pipeline = checkpoint.pipeline
    statistics = read_statistics(checkpoint.folder)
    if statistics is None:
        raise ValueError(
            f"the loss of {checkpoint.name} has no floors to be read by: write its {STATISTICS_FILE} with "
            "`python train/latents.py`"
        )
    prediction_type, amplitudes = pipeline.denoiser.prediction_type, pipeline.denoiser.schedule.amplitudes
    floors = floors_of(statistics, prediction_type, amplitudes, pipeline.denoiser.num_classes > 0)
    return reading_of(checkpoint.log(), prediction_type, floors)
