"""The DiffusionPipeline that ties autoencoder, UNet and scheduler: class labels in, images out."""

from collections.abc import Iterator, Sequence

import torch
from diffusers import AutoencoderKL, DDPMScheduler, DiffusionPipeline, ImagePipelineOutput, UNet2DModel
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ldm_explorer.data import to_uint8
from ldm_explorer.denoiser import Denoiser, NetworkDenoiser
from ldm_explorer.files import shown
from ldm_explorer.latents import IdentityCodec, LatentCodec, in_batches
from ldm_explorer.options import whole_numbers
from ldm_explorer.samplers import (
    DEFAULT_NUM_STEPS,
    DEFAULT_SAMPLER,
    DenoiseStep,
    denoise,
    draw_noise,
    final_latents,
    make_sampler,
    own_schedule,
)


class LatentDiffusionPipeline(DiffusionPipeline):
    """Generates images in [-1, 1] from class labels (K is the null class) and seeds, in fp32.

    Without an autoencoder the UNet's latents are the pixels. `num_classes` is as in `NetworkDenoiser`.
    """

    def __init__(
        self, vae: AutoencoderKL | None, unet: UNet2DModel, scheduler: DDPMScheduler, num_classes: int | None = None
    ):
        """Raises `ValueError` when the latent grids of the two networks differ or statistics are missing."""
        super().__init__()
        self.register_modules(vae=vae, unet=unet, scheduler=scheduler)
        self.num_classes = num_classes
        self.codec = IdentityCodec(self.latent_shape) if vae is None else LatentCodec(vae)
        if self.latent_shape != self.codec.latent_shape:
            raise ValueError(
                f"the UNet takes latents {self.latent_shape}, the autoencoder makes {self.codec.latent_shape}"
            )

    @property
    def denoiser(self) -> NetworkDenoiser:
        """The UNet with what it predicts and along which schedule."""
        schedule = own_schedule(self.scheduler)
        return NetworkDenoiser(self.unet, self.scheduler.config.prediction_type, schedule, self.num_classes)

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
        num_inference_steps: int = DEFAULT_NUM_STEPS,
        guidance_scale: float = 1.0,
        sampler: str = DEFAULT_SAMPLER,
        denoiser: Denoiser | None = None,
    ) -> Iterator[DenoiseStep]:
        """One latent per seed, step by step; `denoiser` answers in the place of the pipeline's own.

        Raises `ValueError` for labels the network does not know, and as `samplers.denoise` does.
        """
        seeds = whole_numbers(seeds, "seeds")
        if not seeds:
            raise ValueError("no seeds: give one per image")
        labels = self._labels(class_labels, len(seeds))
        noise, generators = draw_noise(self.latent_shape, seeds)
        return denoise(
            self.denoiser if denoiser is None else denoiser,
            make_sampler(sampler, self.scheduler),
            noise.to(self.device),
            labels,
            num_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            generators=generators,
        )

    def _labels(self, class_labels: Sequence[int] | None, count: int) -> Tensor | None:
        denoiser = self.denoiser
        if class_labels is None:
            return None
        if not denoiser.num_classes:
            raise ValueError("this network was trained without class labels: leave them out")
        labels = whole_numbers(class_labels, "class_labels")
        if len(labels) != count:
            raise ValueError(f"{len(labels)} class labels for {count} seeds: give one label per seed")
        last = denoiser.num_classes - (denoiser.null_class is None)
        if bad := [label for label in labels if not 0 <= label <= last]:
            no_label = ", the last one meaning no label" if denoiser.null_class is not None else ""
            raise ValueError(f"class labels {bad}: give 0 to {last}{no_label}")
        return torch.tensor(labels, device=self.device)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Sequence[int] | None = None,
        seeds: Sequence[int] = (0,),
        *,
        num_inference_steps: int = DEFAULT_NUM_STEPS,
        guidance_scale: float = 1.0,
        sampler: str = DEFAULT_SAMPLER,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """Images as a list of PIL images ("pil") or a tensor `(B, C, S, S) in [-1, 1]` ("pt").

        Raises `ValueError` as `denoise` does, and for another `output_type`.
        """
        if output_type not in ("pil", "pt"):
            raise ValueError(f"output_type is {output_type!r}: give 'pil' or 'pt'")
        steps = self.denoise(
            class_labels,
            seeds,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            sampler=sampler,
        )
        latents = final_latents(self.progress_bar(steps))
        pixels = in_batches(self.codec.decode, latents).clamp(-1, 1).cpu()
        return ImagePipelineOutput(pixels if output_type == "pt" else to_pil(pixels))


def to_pil(pixels: Tensor) -> list[Image.Image]:
    """`(B, C, S, S) float in [-1, 1]`, grey or RGB, to PIL images. Raises `ValueError` for anything else."""
    is_float = isinstance(pixels, Tensor) and pixels.is_floating_point()
    if not is_float or pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or not pixels.isfinite().all():
        found = f"{pixels.dtype} of shape {tuple(pixels.shape)}" if isinstance(pixels, Tensor) else shown(pixels)
        raise ValueError(
            f"{found} is no picture: give finite floats (B, 1 or 3, S, S) in [-1, 1], of uint8 by to_model"
        )
    return [to_pil_image(image) for image in to_uint8(pixels)]
