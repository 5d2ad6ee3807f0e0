"""Class labels in, images out: a latent diffusion pipeline in one file, on torch and diffusers alone.

A copy of it lies as pipeline.py in the folder of every denoiser that LDM Explorer trains, which so needs nothing else:
    DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)"""

import inspect
from collections.abc import Callable, Sequence

import diffusers
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, ImagePipelineOutput, UniPCMultistepScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

FLOW_MATCHING = diffusers.FlowMatchEulerDiscreteScheduler, diffusers.FlowMatchHeunDiscreteScheduler
"""They know a flow and its velocity u = eps - z0 alone; others have a field for either, and another for the shift."""
SAMPLERS: dict[str, Callable[[diffusers.SchedulerMixin], diffusers.SchedulerMixin]] = {
    "dpm++": lambda scheduler: _solver(DPMSolverMultistepScheduler, scheduler),
    "unipc": lambda scheduler: _solver(UniPCMultistepScheduler, scheduler),
    "ddim": lambda scheduler: DPMSolverMultistepScheduler.from_config(scheduler.config, solver_order=1),
    "ddpm": lambda scheduler: DDPMScheduler.from_config(scheduler.config),
}
"""DPM-Solver++ 2M (Lu et al. 2022), UniPC (Zhao et al. 2023), DDIM (Song et al. 2021; as first-order DPM-Solver++, for
diffusers' own strides by T // steps, wrong where they do not divide T), ancestral DDPM (Ho et al. 2020)."""
FLOW_SAMPLERS = {name: SAMPLERS[name] for name in ("dpm++", "unipc")} | {
    "euler": lambda scheduler: diffusers.FlowMatchEulerDiscreteScheduler.from_config(scheduler.config),
    "heun": lambda scheduler: diffusers.FlowMatchHeunDiscreteScheduler.from_config(scheduler.config),
}
"""Along a flow, z = (1 - s) z0 + s eps with data at s = 0; the last two for networks that predict its velocity."""
DEFAULT_SAMPLER, DEFAULT_NUM_STEPS = "unipc", 10


def is_flow(scheduler: diffusers.SchedulerMixin) -> bool:
    """Whether it walks along a flow."""
    return isinstance(scheduler, FLOW_MATCHING) or bool(scheduler.config.get("use_flow_sigmas"))


def _solver(kind: type[diffusers.SchedulerMixin], scheduler: diffusers.SchedulerMixin) -> diffusers.SchedulerMixin:
    config = dict(scheduler.config)  # given "shift" under both names, diffusers warns that it will be ignored
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": config.pop("shift", 1.0)}
    return kind.from_config(config | flow if isinstance(scheduler, FLOW_MATCHING) else config)


def set_timesteps(scheduler: diffusers.SchedulerMixin, num_steps: int) -> None:
    """Give a scheduler so many timesteps, one for each evaluation of the network. Raises `ValueError`."""
    config, field = scheduler.config, "flow_shift" if is_flow(scheduler) else "timestep_spacing"
    if not isinstance(num_steps, int) or not 1 <= num_steps <= config.num_train_timesteps:
        raise ValueError(f"{num_steps!r:.80} steps: give 1 to {config.num_train_timesteps}, the schedule's length")
    if isinstance(scheduler, FLOW_MATCHING[0]):  # diffusers' own spend the last one where next to no noise is left
        return scheduler.set_timesteps(sigmas=[1 - step / num_steps for step in range(num_steps)])
    if isinstance(scheduler, FLOW_MATCHING[1]):  # two for a step, but one for the last
        if num_steps % 2:
            return scheduler.set_timesteps((num_steps + 1) // 2)
        raise ValueError(f"{num_steps} evaluations: Heun's method takes an odd number, {num_steps + 1} for one")
    scheduler.set_timesteps(num_steps)
    if is_flow(scheduler):  # rounded to whole numbers they would not be where the latent is
        scheduler.timesteps = scheduler.sigmas[:-1] * config.num_train_timesteps
    elif scheduler.timesteps[-1] < 0:  # diffusers' own arange gains one at 61 of 1000
        scheduler.set_timesteps(num_steps - 1e-9)
    if len(scheduler.timesteps.unique()) < num_steps:
        raise ValueError(f"{num_steps} steps with {field} {config.get(field)!r} come to a timestep twice: give fewer")


def _check_guidance(scale: object, labels: Tensor | None) -> None:
    if not isinstance(scale, int | float) or not abs(scale) < 1e4:
        raise ValueError(f"guidance_scale is {scale!r:.80}: give a number, 1 for none")
    if scale != 1 and labels is None:
        raise ValueError("guidance needs class labels and a network trained with a null class")


class LatentDiffusionPipeline(diffusers.DiffusionPipeline):
    """Makes images of classes 0 to K - 1, or of K, which means "no class", by any of the samplers."""

    model_cpu_offload_seq, _callback_tensor_inputs = "unet->transformer->vae", ["latents"]
    _optional_components = ["unet", "transformer"]  # noqa: RUF012, diffusers asks for a list

    def __init__(
        self,
        vae: diffusers.AutoencoderKL,
        unet: diffusers.UNet2DModel | None,
        scheduler: diffusers.SchedulerMixin,
        transformer: diffusers.DiTTransformer2DModel | None = None,
        sampler: str = DEFAULT_SAMPLER,
        num_inference_steps: int = DEFAULT_NUM_STEPS,
    ):
        super().__init__()
        self.register_modules(vae=vae, unet=unet, scheduler=scheduler, transformer=transformer)
        self.register_to_config(sampler=sampler, num_inference_steps=num_inference_steps)

    @property
    def network(self) -> diffusers.UNet2DModel | diffusers.DiTTransformer2DModel:
        return self.transformer if self.unet is None else self.unet

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | Sequence[int] | Tensor | None = None,
        *,
        batch_size: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float = 1.0,
        sampler: str | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple:
        """Images, "pil" or in [0, 1] "np" `(B, H, W, C)` or "pt" `(B, C, H, W)`. B is `batch_size`, by default one for
        each label or each generator in a list; one label serves all. `sampler` is one of `SAMPLERS`, of a flow one of
        `FLOW_SAMPLERS`; by default it and its steps are the folder's own, or it is what was put in place of the
        folder's scheduler, if that is no DDPMScheduler or FlowMatchEulerDiscreteScheduler. Raises `ValueError`."""
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type is {output_type!r:.80}: give 'pil', 'np' or 'pt'")
        if others := set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs):
            raise ValueError(f"callback_on_step_end_tensor_inputs has {others}: there is latents alone")
        labels, count = self._labels_and_count(class_labels, batch_size, generator)
        _check_guidance(guidance_scale, labels)
        scheduler = self._scheduler_for(sampler)
        steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        set_timesteps(scheduler, steps)
        noise = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
        channels, size = self.network.config.in_channels, self.network.config.sample_size
        shape = (count, channels, *(size if isinstance(size, list | tuple) else (size, size)))
        z = randn_tensor(shape, generator, self._execution_device, self.network.dtype)
        z = z * getattr(scheduler, "init_noise_sigma", 1.0)
        for index, timestep in enumerate(self.progress_bar(scheduler.timesteps)):
            z_t = z if is_flow(scheduler) else scheduler.scale_model_input(z, timestep)
            prediction = self._predict(z_t, timestep, labels)
            if guidance_scale != 1:
                unguided = self._predict(z_t, timestep, None)
                prediction = unguided + guidance_scale * (prediction - unguided)
            z = scheduler.step(prediction, timestep, z, return_dict=False, **noise)[0]
            if callback_on_step_end is not None:
                asked = dict.fromkeys(callback_on_step_end_tensor_inputs, z)
                z = (callback_on_step_end(self, index, timestep, asked) or {}).get("latents", z)
        pixels = (torch.cat([self._decode(part).float() for part in z.split(64)]) / 2 + 0.5).clamp(0, 1).cpu()
        self.maybe_free_model_hooks()
        arrays = pixels.permute(0, 2, 3, 1).numpy()
        images = pixels if output_type == "pt" else arrays if output_type == "np" else self.numpy_to_pil(arrays)
        return ImagePipelineOutput(images) if return_dict else (images,)

    def _labels_and_count(self, given, batch_size: int | None, generator) -> tuple[Tensor | None, int]:
        numbers = [-1] if isinstance(given, str) else given  # a word is no class, whatever torch says of it
        labels = None if given is None else torch.as_tensor(numbers, device=self._execution_device).reshape(-1)
        lengths = [len(listed) for listed in (labels, generator) if isinstance(listed, Tensor | list)]
        count = max(lengths, default=1) if batch_size is None else batch_size
        if count < 1 or not {1, count}.issuperset(lengths):
            raise ValueError(f"{lengths} labels and generators for {count} images: give one, or one for each image")
        known = self._num_labels
        if labels is not None and (labels.is_floating_point() or not set(labels.tolist()) <= {*range(known)}):
            raise ValueError(f"class labels {given!r:.80}: the network knows {known} of them, from 0 on")
        return None if labels is None else labels.expand(count), count

    def _scheduler_for(self, sampler: str | None) -> diffusers.SchedulerMixin:
        stored, known = self.scheduler, FLOW_SAMPLERS if is_flow(self.scheduler) else SAMPLERS
        if known is FLOW_SAMPLERS and not isinstance(stored, FLOW_MATCHING):  # the network predicts no velocity
            known = {name: make for name, make in SAMPLERS.items() if name in FLOW_SAMPLERS}
        if sampler is None and not isinstance(stored, DDPMScheduler | diffusers.FlowMatchEulerDiscreteScheduler):
            return stored
        if (name := sampler or self.config.sampler) not in known:
            raise ValueError(f"unknown sampler {name!r:.80}: choose one of {', '.join(known)}")
        return known[name](stored)

    @property
    def _num_labels(self) -> int:  # the last one is "no class"; a transformer has an embedding of one class for none
        if self.transformer is None:
            return self.unet.config.num_class_embeds or 0
        return 0 if (classes := self.transformer.config.num_embeds_ada_norm) == 1 else classes + 1

    def _predict(self, z_t: Tensor, timestep: Tensor, labels: Tensor | None) -> Tensor:
        if labels is None and (self._num_labels or self.transformer is not None):
            labels = torch.full((len(z_t),), max(0, self._num_labels - 1), device=z_t.device)
        told = timestep if self.transformer is None else timestep.to(z_t.device).expand(len(z_t))
        return self.network(z_t, told, labels, return_dict=False)[0]

    def _decode(self, z: Tensor) -> Tensor:
        mean, std = (torch.tensor(self.vae.config[name]).to(z) for name in ("latents_mean", "latents_std"))
        return self.vae.decode(z * std.view(1, -1, 1, 1) + mean.view(1, -1, 1, 1), return_dict=False)[0]
