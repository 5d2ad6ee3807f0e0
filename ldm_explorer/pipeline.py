"""The DiffusionPipeline that ties autoencoder, denoiser and scheduler: class labels in, images out."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, ImagePipelineOutput, SchedulerMixin, UNet2DModel
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ldm_explorer import standalone_pipeline
from ldm_explorer.data import to_uint8
from ldm_explorer.denoiser import Denoiser, NetworkDenoiser
from ldm_explorer.files import shown
from ldm_explorer.latents import IdentityCodec, LatentCodec
from ldm_explorer.networks import NETWORKS, part_of
from ldm_explorer.options import whole_numbers
from ldm_explorer.samplers import (
    DEFAULT_NUM_STEPS,
    DEFAULT_SAMPLER,
    DenoiseStep,
    check_guidance,
    denoise,
    draw_noise,
    make_generators,
    make_sampler,
    own_schedule,
    prediction_type_of,
)


class LatentDiffusionPipeline(standalone_pipeline.LatentDiffusionPipeline):
    """Generates images from class labels (K is the null class) and seeds, in fp32, and shows each step of the way.

    Without an autoencoder the denoiser's latents are the pixels. `num_classes` is as in `NetworkDenoiser`.
    """

    def __init__(
        self,
        vae: AutoencoderKL | None,
        unet: UNet2DModel | None,
        scheduler: SchedulerMixin,
        num_classes: int | None = None,
        transformer: DiTTransformer2DModel | None = None,
        *,
        sampler: str = DEFAULT_SAMPLER,
        num_inference_steps: int = DEFAULT_NUM_STEPS,
    ):
        """Raises `ValueError` when the latent grids of the two networks differ or statistics are missing."""
        super().__init__(vae, unet, scheduler, transformer, sampler, num_inference_steps)
        self.num_classes = num_classes
        self.codec = IdentityCodec(self.latent_shape) if vae is None else LatentCodec(vae)
        if self.latent_shape != self.codec.latent_shape:
            raise ValueError(
                f"the denoiser takes latents {self.latent_shape}, the autoencoder makes {self.codec.latent_shape}"
            )

    @classmethod
    def of(
        cls,
        vae: AutoencoderKL | None,
        network: UNet2DModel | DiTTransformer2DModel,
        scheduler: SchedulerMixin,
        num_classes: int | None = None,
        **sampling: Any,
    ) -> "LatentDiffusionPipeline":
        """Of either network, and with `sampler` and `num_inference_steps`. Raises `ValueError` as the class does."""
        networks = dict.fromkeys(NETWORKS) | {part_of(network): network}
        return cls(vae, scheduler=scheduler, num_classes=num_classes, **networks, **sampling)  # type: ignore[arg-type]

    @classmethod
    def load_config(cls, *args: Any, **options: Any) -> Any:
        """As diffusers reads it, without the code that a folder names: this class stands for it, and none is run."""
        config = super().load_config(*args, **options)
        return config | {"_class_name": cls.__name__} if isinstance(config, dict) else config

    @property
    def denoiser(self) -> NetworkDenoiser:
        """The network with what it predicts and along which schedule."""
        prediction_type, schedule = prediction_type_of(self.scheduler), own_schedule(self.scheduler)
        return NetworkDenoiser(self.network, prediction_type, schedule, self.num_classes)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(c, h, w)"""
        return self.denoiser.latent_shape

    @property
    def null_class(self) -> int | None:
        """The label that means "no label", None for a network that has none."""
        return self.denoiser.null_class

    def denoise(
        self,
        class_labels: Sequence[int] | None,
        seeds: Sequence[int],
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float = 1.0,
        sampler: str | None = None,
        denoiser: Denoiser | None = None,
    ) -> Iterator[DenoiseStep]:
        """One latent per seed, step by step; `denoiser` answers in the place of the pipeline's own.

        The sampler and its steps are by default those that the pipeline is made for.

        Raises `ValueError` for labels the network does not know, and as `samplers.denoise` does.
        """
        seeds = _checked(seeds)
        labels = None if class_labels is None else self._labels(class_labels, len(seeds))
        noise, generators = draw_noise(self.latent_shape, seeds)
        return denoise(
            self.denoiser if denoiser is None else denoiser,
            make_sampler(self.config.sampler if sampler is None else sampler, self.scheduler),
            noise.to(self.device),
            labels,
            num_steps=self.config.num_inference_steps if num_inference_steps is None else num_inference_steps,
            guidance_scale=guidance_scale,
            generators=generators,
        )

    def _labels(self, class_labels: Sequence[int] | Tensor, count: int) -> Tensor:
        denoiser = self.denoiser
        if not denoiser.num_classes:
            raise ValueError("this network was trained without class labels: leave them out")
        labels = whole_numbers(class_labels, "class_labels")
        if len(labels) not in (1, count):
            raise ValueError(f"{len(labels)} class labels for {count} images: give one, or one for each")
        last = denoiser.num_classes - (denoiser.null_class is None)
        if bad := [label for label in labels if not 0 <= label <= last]:
            no_label = ", the last one meaning no label" if denoiser.null_class is not None else ""
            raise ValueError(f"class labels {bad}: give 0 to {last}{no_label}")
        return torch.tensor(labels, device=self.device).expand(count)

    def __call__(
        self,
        class_labels: int | Sequence[int] | Tensor | None = None,
        seeds: Sequence[int] | None = None,
        *,
        generator: torch.Generator | list[torch.Generator] | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> ImagePipelineOutput | tuple:
        """Images, as `standalone_pipeline.LatentDiffusionPipeline` makes them of the other `options`.

        Image i depends on seed i alone; the seeds are 0, 1, ... where neither they nor a `generator` are given. Raises
        `ValueError` as `denoise` does, and for another `output_type`.
        """
        if seeds is not None and generator is not None:
            raise ValueError("both seeds and a generator: give one of them")
        check_guidance(options.get("guidance_scale", 1.0), self.denoiser, class_labels is not None)
        labels = [class_labels] if isinstance(class_labels, int) else class_labels
        given = 1 if labels is None else len(labels)
        if generator is None:
            seeds = range(given if batch_size is None else batch_size) if seeds is None else _checked(seeds)
            if batch_size not in (None, len(seeds)):
                raise ValueError(f"{len(seeds)} seeds for {batch_size} images: give one per image")
            generator = make_generators(seeds)
        if batch_size is None:
            batch_size = len(generator) if isinstance(generator, list) else given
        labels = None if labels is None else self._labels(labels, batch_size)
        return super().__call__(labels, batch_size=batch_size, generator=generator, **options)

    def _predict(self, z_t: Tensor, timestep: Tensor, labels: Tensor | None) -> Tensor:
        return self.denoiser.predict(z_t, timestep, labels)

    def _decode(self, z: Tensor) -> Tensor:
        pixels = self.codec.decode(z)
        if not pixels.isfinite().all():
            raise ValueError("the images are not finite: ldm-diagnose looks for the cause in the model's folder")
        return pixels


def _checked(seeds: Sequence[int]) -> list[int]:
    checked = whole_numbers(seeds, "seeds")
    if not checked:
        raise ValueError("no seeds: give one per image")
    return checked


def to_pil(pixels: Tensor) -> list[Image.Image]:
    """`(B, C, S, S) float in [-1, 1]`, grey or RGB, to PIL images. Raises `ValueError` for anything else."""
    is_float = isinstance(pixels, Tensor) and pixels.is_floating_point()
    if not is_float or pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or not pixels.isfinite().all():
        found = f"{pixels.dtype} of shape {tuple(pixels.shape)}" if isinstance(pixels, Tensor) else shown(pixels)
        raise ValueError(
            f"{found} is no picture: give finite floats (B, 1 or 3, S, S) in [-1, 1], of uint8 by to_model"
        )
    return [to_pil_image(image) for image in to_uint8(pixels)]
