"""The training of the classifier in whose features distances are measured: `accelerate launch train/features.py`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from ldm_explorer.checkpoints import save_model
from ldm_explorer.data import ImageSet, crop, to_model
from ldm_explorer.evaluation.classifier import FURTHER_RUNS
from ldm_explorer.evaluation.features import FeatureNet, ImageClassifier
from ldm_explorer.evaluation.further_networks import FURTHER_NETWORKS
from ldm_explorer.latents import BATCH_IMAGES
from ldm_explorer.network_configs import MAX_LEVELS, MAX_WIDTH
from ldm_explorer.network_files import model_files
from ldm_explorer.run_layout import CLASSIFIER, CLASSIFIER_RUN
from ldm_explorer.training.config import OptimizerName
from ldm_explorer.training.dataset import TrainConfig
from ldm_explorer.training.mirroring import draw_mirrored, mirror

MAX_SHIFT = 2
VALIDATION_IMAGES = 2000

NETWORKS: dict[str, type[ImageClassifier]] = {"resnet": FeatureNet, **FURTHER_NETWORKS}
if TYPE_CHECKING:  # a type checker takes no Literal that is computed
    NetworkName = str
else:
    NetworkName = Literal[tuple(NETWORKS)]


@dataclass(frozen=True, kw_only=True)
class ClassifierTrainConfig(TrainConfig):
    """Options of train/features.py."""

    DEFAULT_MINUTES: ClassVar[float] = 12

    network: NetworkName = "resnet"
    """The network that measures are of, or one of the further ones in whose features FD is measured again: give these
    a --seed of their own."""
    widths: tuple[int, ...] | None = None
    """Channels per resolution, finest first, or per layer of the transformer. Default: those of the network."""
    batch_size: int = 128
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 5e-3
    """Peak of the learning rate. The further networks want less: 0.002 (plain), 0.0015 (tokens)."""
    weight_decay: float = 0.05
    ema_halflife_images: int = 50_000

    def __post_init__(self) -> None:
        super().__post_init__()
        widths = self.widths if self.widths is not None else (8,)
        if not 1 <= len(widths) <= MAX_LEVELS or any(width % 8 or not 8 <= width <= MAX_WIDTH for width in widths):
            raise ValueError(f"--widths are {widths}: give 1 to {MAX_LEVELS} multiples of 8, of at most {MAX_WIDTH}")


@dataclass
class ClassifierTask:
    """Cross-entropy with label smoothing 0.1 on randomly mirrored and shifted images."""

    config: ClassifierTrainConfig
    images: ImageSet
    validation: ImageSet
    test: ImageSet
    model: ImageClassifier = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.config.seed)
        spec, widths = self.config.spec, self.config.widths
        own: dict[str, Any] = {} if self.config.network == "resnet" else {"side": spec.side}
        own |= {"widths": widths} if widths else {}
        self.model = NETWORKS[self.config.network](spec.channels, spec.num_classes, **own)
        self.num_examples = len(self.images)

    def batch(self, indices: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        images, side = self.images.images[indices], self.config.spec.side
        images = F.pad(crop(images, self.config.spec), (MAX_SHIFT,) * 4, value=self.config.spec.background)
        images = mirror(images, draw_mirrored(len(indices), generator))
        shifts = torch.randint(0, 2 * MAX_SHIFT + 1, (len(indices), 2), generator=generator).tolist()
        windows = [image[:, y : y + side, x : x + side] for image, (y, x) in zip(images, shifts, strict=True)]
        return {"pixels": to_model(torch.stack(windows)), "labels": self.images.labels[indices]}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = model(batch["pixels"]).float()
        accuracy = (logits.argmax(1) == batch["labels"]).float().mean()
        return {"loss": F.cross_entropy(logits, batch["labels"], label_smoothing=0.1), "accuracy": accuracy}

    def validate(self, model: nn.Module) -> dict[str, float]:
        labels = self.validation.labels[:VALIDATION_IMAGES]
        images = crop(self.validation.images[:VALIDATION_IMAGES], self.config.spec)
        return dict(zip(("loss", "accuracy"), _loss_and_accuracy(model, images, labels), strict=True))

    def sample(self, model: nn.Module) -> None:
        """There is no film of a classifier."""

    def export(self, model: ImageClassifier, folder: Path) -> dict[str, Any]:
        save_model(model, folder / CLASSIFIER)
        images = crop(self.test.images, self.config.spec)
        _, accuracy = _loss_and_accuracy(model.half().float(), images, self.test.labels)
        return {"test_accuracy": accuracy, "test_images": len(self.test)}


@torch.no_grad()
def _loss_and_accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    device = next(model.parameters()).device
    logits = torch.cat([model(to_model(part).to(device)).cpu() for part in images.split(BATCH_IMAGES)])
    return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).float().mean())


class ClassifierTraining:
    """The training of a classifier with some options: `train(ClassifierTraining(ClassifierTrainConfig()))`."""

    files = model_files(CLASSIFIER)

    def __init__(self, config: ClassifierTrainConfig):
        """Raises `ValueError` for images without classes."""
        if not config.spec.num_classes:
            raise ValueError(f"{config.dataset} has no classes, so there is nothing to classify: give it subfolders")
        self.config = config
        self.name = FURTHER_RUNS.get(config.network, CLASSIFIER_RUN)

    def make_task(self, accelerator: Accelerator, folder: Path) -> ClassifierTask:  # noqa: ARG002
        """Raises what `load_split` does."""
        return ClassifierTask(self.config, *(self.config.load(split) for split in ("train", "validation", "test")))
