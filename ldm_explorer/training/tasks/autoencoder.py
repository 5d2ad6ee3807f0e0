"""The autoencoder's training: `accelerate launch train/vae.py --max-minutes 30`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ldm_explorer.checkpoints import save_vae
from ldm_explorer.data import ImageSet, crop, to_model
from ldm_explorer.evaluation.classifier import classifier_folder, load_classifier
from ldm_explorer.evaluation.features import FeatureNet, perceptual_distance
from ldm_explorer.evaluation.parts import digest
from ldm_explorer.evaluation.reconstruction import psnr_db
from ldm_explorer.latents import BATCH_IMAGES, kl_per_value
from ldm_explorer.models import VAEConfig, check_size
from ldm_explorer.network_files import model_files, weights_sha256
from ldm_explorer.options import check_kind
from ldm_explorer.run_layout import CLASSIFIER, VAE
from ldm_explorer.training.dataset import TrainConfig
from ldm_explorer.training.encoding import measure_scale
from ldm_explorer.training.mirroring import draw_mirrored, mirror

VALIDATION_IMAGES = 1000


@dataclass(frozen=True, kw_only=True)
class VAETrainConfig(TrainConfig):
    """The options of an autoencoder's training, from Python or on the command line of train/vae.py.

    Raises `ValueError` for values that cannot be, and what `find_dataset` does.
    """

    LEARNING_RATES: ClassVar[dict[str, float]] = {"muon": 0.012, "adamw": 3e-3}

    latent_size: int = 8
    """Side of the latent grid: 4, 8, 16 or 32 for images of side 32."""
    latent_channels: int = 4
    widths: tuple[int, ...] = (16, 32, 64)
    """Channels per resolution, finest first."""
    layers_per_block: int = 1
    flip: bool = False
    """Mirror half of the images, drawn anew at every step: for images that could as well be the other way round."""
    kl_weight: float = 1e-4
    """Weight of the KL term, (KL summed over latent values) / pixels, beside the mean squared error."""
    perceptual: Path | None = None
    """Folder of a classifier (train/features.py) in whose feature maps images are compared as well; not the one in
    whose features distances are measured."""
    perceptual_weight: float = 0.05
    batch_size: int = 16
    grad_clip_norm: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kl_weight < 0:
            raise ValueError(f"--kl-weight is {self.kl_weight}: it cannot be negative")
        if self.perceptual_weight <= 0:
            raise ValueError(f"--perceptual-weight is {self.perceptual_weight}: it has to be above 0")
        _ = self.model

    @property
    def places(self) -> dict[str, str]:
        if self.perceptual is None:
            return super().places
        weights = weights_sha256(self.perceptual / CLASSIFIER)
        return super().places | {"perceptual": f"a classifier of SHA-256 {weights[:16]}"}

    @property
    def name(self) -> str:
        return f"vae-{self.latent_size}x{self.latent_size}x{self.latent_channels}"

    @property
    def model(self) -> VAEConfig:
        return VAEConfig(
            latent_size=self.latent_size,
            latent_channels=self.latent_channels,
            image_side=self.spec.model_side,
            image_channels=self.spec.channels,
            widths=self.widths,
            layers_per_block=self.layers_per_block,
        )


class Autoencoder(nn.Module):
    """An AutoencoderKL whose forward pass returns what its loss needs, with the posterior's noise given."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, C, S, S)` and `(B, c, h, w)` to the reconstruction and the KL per latent value, in nats."""
        posterior = self.vae.encode(pixels).latent_dist
        kl = kl_per_value(posterior.mean, posterior.var, posterior.logvar)
        return self.vae.decode(posterior.mean + posterior.std * noise, return_dict=False)[0], kl


def load_perceptual(config: VAETrainConfig) -> FeatureNet | None:
    """The classifier of the loss, if there is to be one.

    Raises `CheckpointError` for a folder without a fitting one, `ValueError` for the one that evaluations measure with.
    """
    if config.perceptual is None:
        return None
    network = load_classifier(config.perceptual, config.spec)
    reference = classifier_folder(config.dataset, config.perceptual.parent)
    if reference is not None and digest(reference) == digest(config.perceptual):
        raise ValueError(
            f"{config.perceptual} is what evaluations measure with, and would flatter what was trained on it: train "
            "another with train/features.py, with --seed, --widths and --out of its own"
        )
    return network.eval().requires_grad_(False)


@dataclass
class AutoencoderTask:
    """Mean squared error over pixels, plus `kl_weight` times the KL per pixel (Kingma & Welling 2014, eq. 10).

    With a `perceptual` network the distance in its feature maps comes on top.
    """

    config: VAETrainConfig
    images: ImageSet
    validation: ImageSet
    perceptual: FeatureNet | None = None
    model: Autoencoder = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.config.seed)
        self.model = Autoencoder(self.config.model.build())
        self.num_examples = len(self.images)

    def batch(self, indices: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        side, channels = self.config.latent_size, self.config.latent_channels
        noise = torch.randn(len(indices), channels, side, side, generator=generator)
        images = self.images.images[indices]
        if self.config.flip:
            images = mirror(images, draw_mirrored(len(indices), generator))
        return {"pixels": to_model(images), "noise": noise}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        reconstruction, kl = model(batch["pixels"], batch["noise"])
        return self._losses(reconstruction, batch["pixels"], kl)

    def _losses(self, reconstruction: Tensor, pixels: Tensor, kl: Tensor) -> dict[str, Tensor]:
        reconstruction = reconstruction.float()
        mse, mean_kl = (reconstruction - pixels).square().mean(), kl.float().mean()
        loss = mse + self.config.kl_weight * mean_kl * kl[0].numel() / pixels[0].numel()
        losses = {"loss": loss, "mse": mse, "kl_per_value": mean_kl}
        if self.perceptual is not None:
            images = (crop(image, self.config.spec) for image in (reconstruction, pixels))
            distance = perceptual_distance(self.perceptual.to(pixels.device), *images)
            losses |= {"loss": loss + self.config.perceptual_weight * distance, "perceptual": distance}
        return losses

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """The loss without posterior noise, and the mean PSNR per image at the original side."""
        pixels = to_model(self.validation.images[:VALIDATION_IMAGES])
        device = next(model.parameters()).device
        totals = {"loss": 0.0, "psnr_db": 0.0, "kl_per_value": 0.0}
        for part in pixels.to(device).split(BATCH_IMAGES):
            reconstruction, kl = model(part, torch.zeros(len(part), *self.latent_shape, device=device))
            reconstruction = reconstruction.clamp(-1, 1)
            measures = self._losses(reconstruction, part, kl)
            measures["psnr_db"] = psnr_db(*(crop(images, self.config.spec) for images in (reconstruction, part))).mean()
            for name in totals:
                totals[name] += float(measures[name]) * len(part) / len(pixels)
        return totals

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return self.config.latent_channels, self.config.latent_size, self.config.latent_size

    def sample(self, model: nn.Module) -> None:
        """There is no film of an autoencoder."""

    def export(self, model: Autoencoder, folder: Path) -> dict[str, Any]:
        vae = model.vae.half().float()
        scale = measure_scale(vae, self.images.images, mirrored=self.config.flip)
        scale.store(vae)
        save_vae(folder, vae)
        measured_on = {"images": scale.num_images, "mean_error": scale.mean_error, "std_error": scale.std_error}
        validated = {f"validation_{name}": value for name, value in self.validate(model).items()}
        return validated | {"latent_scale": measured_on}


class AutoencoderTraining:
    """The training of an autoencoder with some options: `train(AutoencoderTraining(VAETrainConfig()))`."""

    files = model_files(VAE)

    def __init__(self, config: VAETrainConfig):
        """Raises `TypeError` for options of another training, and `ValueError` for a network that is too large."""
        check_kind(config, VAETrainConfig, "VAETrainConfig(...)")
        check_size(config.model)
        self.config, self.name = config, config.name

    def make_task(self, accelerator: Accelerator, folder: Path) -> AutoencoderTask:  # noqa: ARG002
        """Raises what `load_split` and `load_perceptual` do."""
        config = self.config
        return AutoencoderTask(config, config.load("train"), config.load("validation"), load_perceptual(config))
