"""What is measured, and how: the options of an evaluation."""

from dataclasses import dataclass
from pathlib import Path

from ldm_explorer.options import settle_types
from ldm_explorer.samplers import DEFAULT_NUM_STEPS, DEFAULT_SAMPLER, SamplerName

SEEDS = (0, 1, 2)
FEW_EVALUATIONS = (4, 6, 8, 10, 12, 16, 25, 50)


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
    sampler: SamplerName = DEFAULT_SAMPLER
    steps: int = DEFAULT_NUM_STEPS
    """Network evaluations per sample. Measures by another sampler or number are stored in columns of their own."""
    quick: bool = False
    """2,000 images and one seed, stored in columns of their own."""
    few_evaluations: bool = False
    """Measure feature FD for every sampler with 4 to 50 evaluations instead, without --sampler and --steps, and store
    that."""
    resume: bool = False
    """Measure only what was not measured before with the same weights, options, torch and threads."""
    compile: bool = False
    """Compile the denoiser first: minutes, once, for 1.6 times the speed; needs a C++ compiler (torch.compile)."""

    def __post_init__(self) -> None:
        settle_types(self)
        if not 1 <= self.steps <= 1000:
            raise ValueError(f"--steps is {self.steps}: give 1 to 1000")
        if self.few_evaluations and (self.sampler, self.steps) != (DEFAULT_SAMPLER, DEFAULT_NUM_STEPS):
            raise ValueError("--few-evaluations measures every sampler: leave out --sampler and --steps")

    @property
    def num_images(self) -> int:
        return 2_000 if self.quick else 10_000

    @property
    def seeds(self) -> tuple[int, ...]:
        return SEEDS[:1] if self.quick else SEEDS

    @property
    def section(self) -> str:
        """Where the measures stand in metrics.json: those by another sampler or number have their own."""
        if self.few_evaluations:
            name = "few_evaluations"
        elif (self.sampler, self.steps) == (DEFAULT_SAMPLER, DEFAULT_NUM_STEPS):
            name = "evaluation"
        else:
            name = f"evaluation_{self.sampler}_{self.steps}"
        return f"{name}_quick" if self.quick else name
