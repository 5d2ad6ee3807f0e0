"""What makes a loss readable: the schedule, what is predicted, the latents, and how the loss was averaged."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ldm_explorer.diagnosis.floors import LossFloors, loss_floors
from ldm_explorer.diagnosis.judge import MeanFloors, Rung, beats_white, judge
from ldm_explorer.diagnosis.latent_facts import LatentFacts
from ldm_explorer.files import shown
from ldm_explorer.prediction import PREDICTION_TYPES, PredictionType, min_snr_weight
from ldm_explorer.samplers import prediction_types_of
from ldm_explorer.schedules import (
    DEFAULT_BETA_END,
    DEFAULT_BETA_START,
    DIFFUSERS_NAMES,
    FLOW,
    MAX_NUM_TIMESTEPS,
    SCHEDULES,
    STABLE_DIFFUSION_BETAS,
    BetaSchedule,
    Schedule,
    make_schedule,
    schedule_named,
)

BETA_RANGES = {"scaled_linear": STABLE_DIFFUSION_BETAS}
"""Where not the default: nearly all who use this schedule took it from Stable Diffusion."""

MOST_OF_MEAN_IMAGE = 0.75
"""Of the variance of all values, that of the mean image over its places, which a network knows with no effort."""

OTHER_NAMES = {
    **{theirs: ours for ours, theirs in DIFFUSERS_NAMES.items()},
    **{"rectified_flow": FLOW, "flow_matching": FLOW},
    **{"eps": "epsilon", "v": "v_prediction", "u": "flow", "flow_prediction": "flow", "x0": "sample", "z0": "sample"},
}


@dataclass(frozen=True, eq=False)
class LossFacts:
    """None where something is not known, and nothing is put in its place."""

    schedule: Schedule | None = None
    prediction_type: PredictionType | None = None
    latents: LatentFacts | None = None
    min_snr_gamma: float | None = None  # of the weights of the timesteps; None where all count alike
    divide_by: float = 1.0  # what the loss is divided by to be a mean over values
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.prediction_type is not None and self.prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"the prediction is {shown(self.prediction_type)}: give one of {', '.join(PREDICTION_TYPES)}"
            )
        if self.schedule is not None and self.prediction_type is not None:
            known = prediction_types_of(self.schedule)
            if self.prediction_type not in known:
                raise ValueError(
                    f"{self.prediction_type} along {self.schedule.name}: give one of {', '.join(known)}; v goes with "
                    "betas, the flow velocity u with a flow"
                )
        for name, value in (
            ("--divide-by", self.divide_by),
            ("--min-snr", self.min_snr_gamma),
            ("--batch-size", self.batch_size),
        ):
            if value is not None and not (0 < value < math.inf):
                raise ValueError(f"{name} is {value}: give a number above 0")

    @property
    def missing(self) -> tuple[str, ...]:
        """What is not known, in words."""
        known = {
            "the schedule with its number of timesteps": self.schedule,
            "what the network predicts": self.prediction_type,
            "the latents' standard deviation": self.latents,
        }
        return tuple(name for name, value in known.items() if value is None)

    def weights(self, schedule: Schedule, prediction_type: PredictionType) -> Tensor:
        """`(T,)` of the timesteps in the mean."""
        if self.min_snr_gamma is None:
            return torch.ones(schedule.num_timesteps)
        return min_snr_weight(prediction_type, schedule.amplitudes.map(Tensor.double), self.min_snr_gamma).float()

    def floors(self) -> dict[str, Tensor]:
        """Each floor `(T,)` with the timesteps' weights; without the Gaussian ones where the covariance is not known.

        {} where a fact is missing.
        """
        if self.schedule is None or self.prediction_type is None or self.latents is None:
            return {}
        return self._floors_of(self.latents, self.schedule, self.prediction_type)

    def _floors_of(
        self, latents: LatentFacts, schedule: Schedule, prediction_type: PredictionType
    ) -> dict[str, Tensor]:
        def of(spectrum: Tensor) -> LossFloors:
            return loss_floors(prediction_type, schedule.amplitudes, spectrum, latents.channel_variances)

        whole = of(latents.channel_variances if latents.eigenvalues is None else latents.eigenvalues)
        floors = {"zero": whole.zero, "white": whole.white}
        if latents.eigenvalues is not None:
            floors["gaussian"] = whole.gaussian
        if latents.class_eigenvalues is not None:
            floors["gaussian_per_class"] = of(latents.class_eigenvalues).gaussian
        weights = self.weights(schedule, prediction_type)
        return {name: floor * weights for name, floor in floors.items()}

    def means_at(self, std: float, schedule: Schedule, prediction_type: PredictionType) -> MeanFloors:
        """Zero and white floor of latents of another scale, along another schedule."""
        floors = self._floors_of(LatentFacts.of_std(std), schedule, prediction_type)
        return MeanFloors(float(floors["zero"].mean()), float(floors["white"].mean()), None, None)

    def rung(self, loss: float, floors: MeanFloors, schedule: Schedule, prediction_type: PredictionType) -> Rung | None:
        """What a loss shows; None where it is below the white floor of a std that may be that of all values, and not
        surely below the one of the std about the mean image."""
        shown_by_it, least = judge(loss, floors), self.least_white(schedule, prediction_type)
        unsure = shown_by_it is Rung.MORE_THAN_SCALE and least is not None and not beats_white(loss, least)
        return None if unsure else shown_by_it

    def least_white(self, schedule: Schedule, prediction_type: PredictionType) -> float | None:
        """The mean white floor where the mean image holds most of the variance; None where that is left out of it."""
        if self.latents is None or self.latents.about_mean_image:
            return None
        rest = (1 - MOST_OF_MEAN_IMAGE) * self.latents.channel_variances
        floors = self._floors_of(replace(self.latents, channel_variances=rest), schedule, prediction_type)
        return float(floors["white"].mean())

    @property
    def zero_floor(self) -> float | None:
        """The mean loss of a network that predicts nothing. Of epsilon it is known without the latents."""
        if floors := self.floors():
            return float(floors["zero"].mean())
        if self.prediction_type == "epsilon" and (self.schedule or self.min_snr_gamma is None):
            return 1.0 if self.schedule is None else float(self.weights(self.schedule, "epsilon").mean())
        return None


def mean_floors_of(floors: dict[str, Tensor]) -> MeanFloors:
    """Floors over timesteps as the loss is that is judged by them; there is no memorising one in a log."""
    gaussian = floors.get("gaussian_per_class", floors.get("gaussian"))
    mean = None if gaussian is None else float(gaussian.mean())
    return MeanFloors(float(floors["zero"].mean()), float(floors["white"].mean()), mean, None)


def named_schedule(
    name: str, num_timesteps: int, beta_start: float | None = None, beta_end: float | None = None
) -> Schedule:
    """A schedule by the name that this project or diffusers gives it. Raises `ValueError` as `schedule_named` does."""
    name = OTHER_NAMES.get(name, name)
    if name not in SCHEDULES:
        return schedule_named(name, num_timesteps)
    start, end = BETA_RANGES.get(name, (DEFAULT_BETA_START, DEFAULT_BETA_END))
    start, end = (usual if own is None else own for own, usual in ((beta_start, start), (beta_end, end)))
    return make_schedule(name, num_timesteps, start, end)


def schedule_of_betas(betas: list[float]) -> Schedule:
    """Raises `ValueError` for betas that are too few or too many, or not from 0 to 1."""
    if not 2 <= len(betas) <= MAX_NUM_TIMESTEPS:
        raise ValueError(f"there are {len(betas)} betas: give 2 to {MAX_NUM_TIMESTEPS}, one per timestep")
    wrong = [beta for beta in betas if not 0 <= beta <= 1]
    if wrong or not betas[0]:
        raise ValueError(f"a beta is {(wrong or betas)[0]}: give numbers above 0 and at most 1")
    return BetaSchedule("its own betas", torch.tensor(betas, dtype=torch.float32))


def prediction_named(name: str) -> str:
    """A prediction type by any of its usual names."""
    return OTHER_NAMES.get(name, name)


def usual_schedules(num_timesteps: int) -> list[Schedule]:
    """Those that a log may have been trained along."""
    return [named_schedule(name, num_timesteps) for name in (*SCHEDULES, FLOW)]
