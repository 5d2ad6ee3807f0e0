"""What is measured, and how: the options of an evaluation."""

from dataclasses import dataclass
from pathlib import Path

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.options import settle_types
from ldm_explorer.sampler_steps import DEFAULT_STEPS, SamplerSteps
from ldm_explorer.samplers import SamplerName, samplers_of

SEEDS = (0, 1, 2)
FEW_EVALUATIONS = (4, 6, 8, 10, 12, 16, 25, 50)


def few_evaluations(checkpoint: Checkpoint, sampler: str | None = None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The samplers, or the one that is asked for, and with how many evaluations each, that a curve of few evaluations
    has; a student has its own."""
    if checkpoint.teacher:
        return (checkpoint.sampling.sampler,), (checkpoint.sampling.num_inference_steps,)
    denoiser = checkpoint.denoiser
    return (sampler,) if sampler else tuple(samplers_of(denoiser.schedule, denoiser.prediction_type)), FEW_EVALUATIONS


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The options of an evaluation."""

    dataset: str = "fashion_mnist"
    """What folders of samples are measured against, and checkpoints that do not know their own."""
    image_side: int | None = None
    """Side of the images where that is folder:PATH."""
    data_dir: Path | None = None
    """Folder with the dataset's own files; by default they are found on the system or downloaded."""
    features: Path | None = None
    """Folder of the classifier, made by train/features.py. Default: the shipped one, else one beside the checkpoint;
    measures by another than that are stored in columns of their own, which the app does not show."""
    sampler: SamplerName | None = None
    """Default: the checkpoint's own, which is unipc, and ddim of a student."""
    steps: int | None = None
    """Network evaluations per sample. Default: the checkpoint's own, 10, and as many as a student was distilled to.
    Measures by another sampler or number are stored in columns of their own."""
    quick: bool = False
    """2,000 images and one seed, stored in columns of their own."""
    few_evaluations: bool = False
    """Measure feature FD with 4 to 50 evaluations instead, for every sampler or --sampler, of a student with its own,
    and store that."""
    resume: bool = False
    """Measure only what was not measured before with the same weights, options, torch and threads."""
    compile: bool = False
    """Compile the denoiser first: minutes, once, for 1.6 times the speed; needs a C++ compiler (torch.compile)."""

    def __post_init__(self) -> None:
        settle_types(self)
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise ValueError(f"--steps is {self.steps}: give 1 to 1000")
        if self.few_evaluations and self.steps is not None:
            raise ValueError("--few-evaluations measures 4 to 50 of them: leave out --steps")

    @property
    def num_images(self) -> int:
        return 2_000 if self.quick else 10_000

    @property
    def seeds(self) -> tuple[int, ...]:
        return SEEDS[:1] if self.quick else SEEDS

    def sampling(self, own: SamplerSteps) -> SamplerSteps:
        """How a checkpoint is sampled, given how it is where nobody says otherwise."""
        return own.given(self.sampler, self.steps)

    def section(self, own: SamplerSteps = DEFAULT_STEPS) -> str:
        """Where the measures stand in metrics.json: those by another sampler or number than a checkpoint's own have
        their own."""
        sampling = self.sampling(own)
        if self.few_evaluations:
            name = "few_evaluations"
        elif sampling == own:
            name = "evaluation"
        else:
            name = f"evaluation_{sampling.sampler}_{sampling.num_inference_steps}"
        return f"{name}_quick" if self.quick else name
