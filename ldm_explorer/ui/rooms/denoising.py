"""Room: how does noise become an image?"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import gradio as gr
import torch
from torch import Tensor

from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER
from ldm_explorer.explore.denoising import DenoisingFrame, denoise_images, timesteps_shown
from ldm_explorer.explore.export import denoising_script, short_path
from ldm_explorer.explore.library import Library
from ldm_explorer.files import counted
from ldm_explorer.sampler_steps import SamplerSteps
from ldm_explorer.ui import few_evaluations, flow_lens, settings
from ldm_explorer.ui.flow_lens import LensSettings
from ldm_explorer.ui.html import join
from ldm_explorer.ui.images import class_of
from ldm_explorer.ui.nearest_training import nearest_shown
from ldm_explorer.ui.parts import fold
from ldm_explorer.ui.pictures import difference_map, grid, latent_channel
from ldm_explorer.ui.place import Place
from ldm_explorer.ui.server.work import LONG
from ldm_explorer.ui.sides import comparable, decibels, lettered
from ldm_explorer.ui.stage import Frame, Histogram, Picture, Shot, Show, Side, stage
from ldm_explorer.ui.students import student_links

NAME = "denoising"
TITLE = "Denoising"
QUESTION = "How does noise become an image?"
WORK = LONG
PARTS = (flow_lens, few_evaluations)
CURVE_POINTS = 41
MAX_LOG_SNR = 20.0
SYMBOLS = {"v_prediction": "v", "flow": "u", "sample": "z0"}
"""Of what a network predicts where it is not the noise."""
WHY_NOT_ONE_STEP = (
    "At the first step there is only noise, and a network that was trained on squared errors answers with the mean of "
    "all images that could be in it: a blur of the class. A step follows this answer a little way. What is then left "
    "of the noise rules out more and more images, and the mean gets sharper: z0 turns into a garment long before z_t "
    "does. One step alone would end with the first blur."
)
WITHOUT_NOISE = (
    "This sampler adds no noise on its way, so what the network gets wrong stays, up to grain and noise of a weak one; "
    "ddpm in 25 steps or more adds some at each, as schedulers of pixels mostly do, and the network removes it again."
)

IN_TURN = (
    "A and B have timesteps of their own: whichever is at the larger t goes on first, and one can be a step ahead."
)


class DenoisingSettings(LensSettings):
    """A walk from noise to an image, or to many."""

    classes: settings.Classes = "chosen"
    images: settings.Images = 1


SETTINGS = DenoisingSettings


class Walk:
    """The steps of one side, and the seconds that they took."""

    def __init__(self, library: Library, run: DenoisingSettings):
        self.run, self.checkpoint = run, library.get(run.checkpoint)
        self.sampling = run.sampling(self.checkpoint)
        self.seconds = 0.0
        self.frames: list[DenoisingFrame] = []  # the first and the last so far
        self._steps = denoise_images(
            self.checkpoint,
            _class_of(run),
            run.seed,
            run.images,
            **_options(run, self.sampling),
            max_gflops=library.max_gflops,
        )

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> DenoisingFrame:
        started = time.perf_counter()
        step = next(self._steps)
        self.seconds += time.perf_counter() - started
        self.frames = [*self.frames[:1], step]
        return step

    @property
    def first(self) -> DenoisingFrame:
        return self.frames[0]

    @property
    def last(self) -> DenoisingFrame:
        return self.frames[-1]


def build(library: Library) -> list[gr.components.Component]:
    shown = [stage(), gr.HTML(padding=False)]
    with gr.Accordion("Why not in one step?", open=False):
        gr.Markdown(WHY_NOT_ONE_STEP)
    for part in PARTS:
        fold(part, library)
    return shown


def answer(library: Library, chosen: DenoisingSettings, beside: DenoisingSettings | None) -> Iterator[tuple]:
    """Every step of A, and of B at the same noise: what the network sees, and the image it takes it for.

    Then what lies nearest to their images among the training images.
    """
    runs, notes = comparable(library, chosen, beside)
    walks = [Walk(library, run) for run in runs]
    titles = lettered(list(map(_title, walks)))
    show: Show | None = None
    for steps in together(walks):
        pictures = _pictures(walks, steps)
        if show is None:
            show = Show(repr((chosen, beside)), "Step", _num_frames(walks), _sides(titles, len(pictures)))
        yield show.add(Frame(_label(steps), steps[0].timestep, pictures)), ""
    assert show is not None
    show.open_at = len(show.frames) // 2
    said = [
        _in_one_step(walks[0]),
        *([IN_TURN] if _in_turn(walks) else []),
        *(WITHOUT_NOISE for walk in walks[:1] if _adds_no_noise(walk)),
        *notes,
    ]
    whole = show.end(" ".join(said), _facts(walks, show.sides))
    yield whole, ""
    links = student_links(library, chosen.checkpoint, {name: getattr(chosen, name) for name in ("class_name", "seed")})
    nearest = nearest_shown([(walk.checkpoint, walk.last.predicted) for walk in walks], titles)
    yield whole, join([links, nearest])


def together(walks: list) -> Iterator[list[DenoisingFrame]]:
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


def _in_turn(walks: list[Walk]) -> bool:
    """Whether two walks of as many steps do not go on at once, which needs a word."""
    timesteps = [timesteps_shown(walk.checkpoint, *walk.sampling) for walk in walks]
    return len({len(shown) for shown in timesteps}) == 1 and any(shown != timesteps[0] for shown in timesteps)


def _num_frames(walks: list[Walk]) -> int:
    """How many frames `together` will yield: one for each timestep at which one of them stands."""
    return len({t for walk in walks for t in timesteps_shown(walk.checkpoint, *walk.sampling)})


def _class_of(run: DenoisingSettings) -> str | None:
    """None for one of each."""
    return None if run.classes == "each" else class_of(run.class_name)


def _options(run: DenoisingSettings, sampling: SamplerSteps) -> dict[str, Any]:
    """How it is walked, as `denoise_images` and `denoising_script` take it."""
    return {
        "sampler": sampling.sampler,
        "num_steps": sampling.num_inference_steps,
        "guidance_scale": run.guidance,
        "denoiser": run.denoiser,
    }


def _title(walk: Walk) -> str:
    run, (sampler, steps) = walk.run, walk.sampling
    guided = f", guidance {run.guidance:g}" if run.guidance != 1 else ""
    by = "" if run.denoiser == DEFAULT_DENOISER else f", {run.denoiser} denoiser"
    each = ", one of each class" if run.classes == "each" else ""
    return f"{walk.checkpoint.name}: {sampler}, {counted(steps, 'step')}{guided}{by}{each}"


def _label(steps: list[DenoisingFrame]) -> str:
    """Where A and B are; while one takes several of its steps the other stands where it was."""
    places = [f"step {step.index + 1} of {step.total}" for step in steps]
    times = [f"t = {round(step.timestep, 1):g}" for step in steps]
    if len(set(times)) == 1:
        return f"{', B: '.join(places)}, {times[0]}"
    return ", B: ".join(f"{place} at {time}" for place, time in zip(places, times, strict=True))


def _pictures(walks: list[Walk], steps: list[DenoisingFrame]) -> list[list[Picture]]:
    sides = [_side(walk, step) for walk, step in zip(walks, steps, strict=True)]
    if len(steps) < 2 or steps[0].predicted.shape != steps[1].predicted.shape:
        return sides
    a, b = (step.predicted for step in steps)
    shown = Shot(difference_map(grid(a), grid(b)), "z0 of B − z0 of A", f"orange: B is brighter; {decibels(a, b)}")
    return [*sides, [shown]]


def _side(walk: Walk, step: DenoisingFrame) -> list[Picture]:
    schedule = walk.checkpoint.schedule
    log_snr = schedule.snr.log().clamp(-MAX_LOG_SNR, MAX_LOG_SNR)
    places = torch.linspace(0, schedule.num_timesteps - 1, CURVE_POINTS).long()
    at = (step.timestep - schedule.first_timestep) / (schedule.num_timesteps - 1)
    here = schedule.at(step.timestep).snr.log().clamp(-MAX_LOG_SNR, MAX_LOG_SNR)
    now = round(float(here), 1) + 0.0  # no -0.0
    decoded = "" if walk.checkpoint.kind == "pixel" else ", decoded"
    return [
        Shot(grid(step.noisy), f"z_t{decoded}", "what the network sees", slot="noisy"),
        Shot(grid(step.predicted), f"z0{decoded}", "what it takes it for", slot="result"),
        Shot(_channels(step.z_t), "z_t, by channel", "black −3, white +3", size="small", slot="latent"),
        Shot(_channels(step.eps), *_noise_words(walk), size="small", slot="predicted"),
        Histogram(step.z_t, "values of z_t", "dashed: normal"),
        Place(log_snr[places].tolist(), at, "log SNR over t", f"now {now:.1f}, 0 is half noise"),
    ]


def _noise_words(walk: Walk) -> tuple[str, str]:
    """What the noise is called: a network that predicts something else implies it."""
    predicted = walk.checkpoint.denoiser.prediction_type
    if walk.run.denoiser != DEFAULT_DENOISER or predicted == "epsilon":
        return "predicted noise", "by channel"
    return "noise", f"by channel, as the predicted {SYMBOLS[predicted]} has it"


def _channels(latents: Tensor) -> Tensor:
    """The first image's channels side by side, as square as possible."""
    return grid(torch.stack([latent_channel(channel) for channel in latents[0]]))


def _in_one_step(walk: Walk) -> str:
    """What the first prediction is beside the result."""
    if walk.sampling.num_inference_steps == 1:
        if walk.checkpoint.teacher:
            return (
                f"This is the one step: z0 is the image that {walk.checkpoint.teacher} makes of this noise, or near it."
            )
        return "This is the one step: z0 is the mean of all images that could be in the noise."
    first = decibels(walk.first.predicted, walk.last.predicted)
    return f"Why not in one step? The first z0 is a blur: {first} to the result."


def _adds_no_noise(walk: Walk) -> bool:
    """Whether a network of pixels is sampled in another way than by a DDPMScheduler, which most of them come with."""
    is_network = walk.run.denoiser == DEFAULT_DENOISER
    return is_network and walk.checkpoint.kind == "pixel" and walk.sampling.sampler != "ddpm"


def _sides(titles: list[str], count: int) -> list[Side]:
    """Of each run, and of what lies between them where this is one of the columns."""
    return [Side(title) for title in [*titles, "Difference"][:count]]


def _facts(walks: list[Walk], sides: Sequence[Side]) -> list[Side]:
    """The same with the figures of the runs."""
    figures = [_figures(walk) for walk in walks]
    if len(sides) > len(walks):
        figures.append([("results", decibels(*(walk.last.predicted for walk in walks)))])
    return [replace(side, facts=facts) for side, facts in zip(sides, figures, strict=True)]


def _figures(walk: Walk) -> list[tuple[str, str]]:
    evaluations = walk.sampling.num_inference_steps * (2 if walk.run.guidance != 1 else 1)
    of_pixels = walk.checkpoint.kind == "pixel"
    return [
        ("evaluations", f"{evaluations}"),
        ("this run", f"{walk.seconds:.1f} s{'' if of_pixels else ' with decoding'}"),
        ("pixels' std" if of_pixels else "latents' std", _spread(walk)),
    ]


def _spread(walk: Walk) -> str:
    """The std of what was generated, beside that of training where it is known to be 1."""
    checkpoint = walk.checkpoint
    normalised = (
        checkpoint.kind == "ldm" and checkpoint.model.is_ours and checkpoint.config.get("normalise_latents", True)
    )
    return f"{float(walk.last.z0.std()):.2f}{', in training 1 over all images' if normalised else ''}"


def script(library: Library, run: DenoisingSettings) -> str:
    """The Python that makes the same images."""
    checkpoint = library.get(run.checkpoint)
    return denoising_script(
        checkpoint,
        short_path(checkpoint.folder, library.roots),
        _class_of(run),
        run.seed,
        run.images,
        **_options(run, run.sampling(checkpoint)),
    )
