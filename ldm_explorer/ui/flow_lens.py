"""Part: is the way from noise to an image straight, and what would a flow change?"""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER
from ldm_explorer.explore.flow_lens import NUM_PATHS, FlowLens, retraining, view_as_flow
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.twins import read_twins
from ldm_explorer.figures.flow_lens import flow_lens_figure
from ldm_explorer.files import counted
from ldm_explorer.sampler_steps import SamplerSteps
from ldm_explorer.schedules import FLOW
from ldm_explorer.ui import settings
from ldm_explorer.ui.html import Markup, html, join, link_to
from ldm_explorer.ui.images import class_of
from ldm_explorer.ui.server.work import LONG
from ldm_explorer.ui.settings import Settings
from ldm_explorer.ui.sides import comparable, lettered

NAME = "flow-lens"
TITLE = "Is the way straight? The same path as a flow"
FOLDED = True
WORK = LONG
MATH = [{"left": "$", "right": "$", "display": False}]
IN_SHORT = (
    "Divide $z_t = a z_0 + b \\epsilon$ by $a + b$: it is a flow's $x = (1-s) z_0 + s \\epsilon$ at $s = b / (a + b)$. "
    "So every network is a flow's too, with $u = \\epsilon - z_0$ of what it predicts. The straighter the path, the "
    "fewer steps follow it; DDIM is Euler's method in these coordinates."
)


class LensSettings(Settings):
    """A walk from noise to images."""

    checkpoint: settings.Checkpoint
    class_name: settings.ClassName
    seed: settings.Seed = 0
    sampler: settings.Sampler = None
    steps: settings.Steps = None
    guidance: settings.Guidance = 1.0
    denoiser: settings.Denoiser = DEFAULT_DENOISER

    def sampling(self, checkpoint: Checkpoint) -> SamplerSteps:
        """By what its checkpoint is sampled: its own, where nothing else is chosen."""
        return checkpoint.sampling.given(self.sampler, self.steps)


SETTINGS = LensSettings


def build(_library: Library) -> list[gr.components.Component]:
    gr.Markdown(IN_SHORT, latex_delimiters=MATH)
    return [gr.HTML(padding=False), gr.Plot(show_label=False, min_width=320)]


def answer(library: Library, chosen: LensSettings, beside: LensSettings | None) -> Iterator[tuple]:
    """The straightness of A's and B's path in either coordinates, and what a flow would change for A."""
    runs, notes = comparable(library, chosen, beside)
    walks = [(library.get(run.checkpoint), run) for run in runs]
    titles = lettered([_title(checkpoint.name, run.sampling(checkpoint)) for checkpoint, run in walks])
    lenses = [(title, _view(library, *walk)) for title, walk in zip(titles, walks, strict=True)]
    yield _words(library, chosen, lenses, notes), flow_lens_figure(lenses)


def _title(name: str, sampling: SamplerSteps) -> str:
    return f"{name}, {sampling.sampler}, {counted(sampling.num_inference_steps, 'step')}"


def _view(library: Library, checkpoint: Checkpoint, run: LensSettings) -> FlowLens:
    sampling = run.sampling(checkpoint)
    return view_as_flow(
        checkpoint,
        class_of(run.class_name),
        run.seed,
        sampler=sampling.sampler,
        num_steps=sampling.num_inference_steps,
        guidance_scale=run.guidance,
        denoiser=run.denoiser,
        max_gflops=library.max_gflops,
    )


def _words(library: Library, chosen: LensSettings, lenses: list[tuple[str, FlowLens]], notes: list[str]) -> Markup:
    said = [
        html(
            "<p><b>{}</b>: the path is {} times as long as the straight line in the coordinates of a flow, and {} "
            "times in its own (1 is straight; mean of {} images).</p>",
            *(title, f"{lens.flow.straightness:.2f}", f"{lens.own.straightness:.2f}", NUM_PATHS),
        )
        for title, lens in lenses
    ]
    denoiser = library.get(chosen.checkpoint).denoiser
    changes = join(html("<li>{}</li>", change) for change in retraining(denoiser.schedule, denoiser.prediction_type))
    told = html("<p>Trained anew as a flow (<code>train/ldm.py --schedule flow</code>) it would differ in:</p>")
    is_flow = html("<p>{} was trained as a flow: the two coordinates are the same.</p>", chosen.checkpoint)
    anew = [told, html("<ul>{}</ul>", changes), _where_it_was_done(library, chosen)]
    return join([*said, *(anew if changes else [is_flow]), *notes])


def _where_it_was_done(library: Library, chosen: LensSettings) -> Markup:
    """A link to two trainings that differ in this alone, over the same images; nothing where there are none."""
    if (twins := read_twins(library, chosen.checkpoint)) is None:
        return html("")
    first, *others = twins.twins
    flow = next((twin for twin in others if (twin.network, twin.schedule) == (first.network, FLOW)), None)
    if flow is None:
        return html("")
    query = {"room": "denoising", "checkpoint": first.names[0], "b.checkpoint": flow.names[0]}
    together = {"class_name": chosen.class_name, "seed": chosen.seed}
    link = link_to(query | together, f"{first.names[0]} beside {flow.names[0]}")
    return html(
        "<p>Where it was done: {}, trained with as much CPU time on the same latents. Feature FD is {} % along {} and "
        "{} % as a flow{}.</p>",
        *(link, f"{first.mean:.3g}", first.schedule, f"{flow.mean:.3g}"),
        f" (mean of {len(flow.names)} trainings)" if len(flow.names) > 1 else "",
    )
