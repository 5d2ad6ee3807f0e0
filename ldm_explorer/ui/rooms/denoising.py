"""Room: how does noise become an image?"""

from collections.abc import Iterator

import gradio as gr
import torch
from torch import Tensor

from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER
from ldm_explorer.explore.denoising import DenoisingFrame, denoise_images
from ldm_explorer.explore.library import Library
from ldm_explorer.samplers import DEFAULT_NUM_STEPS, DEFAULT_SAMPLER
from ldm_explorer.ui import settings
from ldm_explorer.ui.images import class_of
from ldm_explorer.ui.pictures import grid, latent_channel
from ldm_explorer.ui.server.work import LONG
from ldm_explorer.ui.settings import Settings
from ldm_explorer.ui.stage import Frame, Histogram, Shot, Show, Side, stage

NAME = "denoising"
TITLE = "Denoising"
QUESTION = "How does noise become an image?"
WORK = LONG


class DenoisingSettings(Settings):
    """A walk from noise to an image."""

    checkpoint: settings.Checkpoint
    class_name: settings.ClassName
    seed: settings.Seed = 0
    sampler: settings.Sampler = DEFAULT_SAMPLER
    steps: settings.Steps = DEFAULT_NUM_STEPS
    guidance: settings.Guidance = 1.0
    images: settings.Images = 1
    denoiser: settings.Denoiser = DEFAULT_DENOISER


SETTINGS = DenoisingSettings


def build(_library: Library) -> list[gr.components.Component]:
    return [stage()]


def answer(library: Library, chosen: DenoisingSettings, beside: DenoisingSettings | None) -> Iterator[tuple]:
    """Every step of A, and of B at the same noise: what the network sees, and the image it takes it for."""
    runs = [run for run in (chosen, beside) if run]
    show = Show(repr((chosen, beside)), "Step", max(run.steps for run in runs), [Side(_title(run)) for run in runs])
    latest: list[DenoisingFrame] = []
    for steps in together([_walk(library, run) for run in runs]):
        latest = steps
        label = f"step {steps[0].index + 1} of {steps[0].total}, t = {steps[0].timestep}"
        yield (show.add(Frame(label, steps[0].timestep, [_pictures(step) for step in steps])),)
    facts = [Side(_title(run), _facts(run, step)) for run, step in zip(runs, latest, strict=True)]
    yield (show.end(sides=facts),)


def _walk(library: Library, run: DenoisingSettings) -> Iterator[DenoisingFrame]:
    return denoise_images(
        library.get(run.checkpoint),
        class_of(run.class_name),
        run.seed,
        run.images,
        sampler=run.sampler,
        num_steps=run.steps,
        guidance_scale=run.guidance,
        denoiser=run.denoiser,
        max_gflops=library.max_gflops,
    )


def together(walks: list[Iterator[DenoisingFrame]]) -> Iterator[list[DenoisingFrame]]:
    """The steps of all walks in the order of their noise: whenever one goes on, the others stand where they were."""
    latest = [next(walk) for walk in walks]
    following = [next(walk, None) for walk in walks]
    yield list(latest)
    while any(following):
        noisiest = max(step.timestep for step in following if step)
        for index, step in enumerate(following):
            if step and step.timestep == noisiest:
                latest[index], following[index] = step, next(walks[index], None)
        yield list(latest)


def _title(run: DenoisingSettings) -> str:
    guided = f", guidance {run.guidance:g}" if run.guidance != 1 else ""
    by = "" if run.denoiser == DEFAULT_DENOISER else f", {run.denoiser} denoiser"
    return f"{run.checkpoint}: {run.sampler}, {run.steps} steps{guided}{by}"


def _facts(run: DenoisingSettings, last: DenoisingFrame) -> list[tuple[str, str]]:
    evaluations = run.steps * (2 if run.guidance != 1 else 1)
    return [("evaluations", str(evaluations)), ("std of the latents", f"{float(last.z0.std()):.2f}, 1 in training")]


def _pictures(step: DenoisingFrame) -> list[Shot | Histogram]:
    return [
        Shot(grid(step.noisy), "z_t, decoded", "what the network sees", slot="noisy"),
        Shot(grid(step.predicted), "z0, decoded", "what it takes it for", slot="result"),
        Shot(_channels(step.z_t), "z_t, by channel", "black −3, white +3", size="small", slot="latent"),
        Shot(_channels(step.eps), "predicted noise", "by channel", size="small", slot="predicted"),
        Histogram(step.z_t, "values of z_t", "line: normal distribution"),
    ]


def _channels(latents: Tensor) -> Tensor:
    """The first image's channels side by side, as square as possible."""
    return grid(torch.stack([latent_channel(channel) for channel in latents[0]]))
