"""Room: what is velocity?"""

import math
from collections.abc import Iterator, Sequence

import gradio as gr

from ldm_explorer.explore.library import Library
from ldm_explorer.explore.velocity import (
    CLEAN,
    DEFAULT_STRIDE,
    VelocityView,
    cosine,
    decode_latents,
    rms,
    schedule_of,
    view_schedule,
)
from ldm_explorer.figures.velocity import coefficient_figure
from ldm_explorer.ui import settings
from ldm_explorer.ui.controls import default_checkpoint
from ldm_explorer.ui.formula_checker import MATH, build_checker
from ldm_explorer.ui.html import Markup, html, join, table
from ldm_explorer.ui.images import chosen_image
from ldm_explorer.ui.pictures import csv_link, scrolling
from ldm_explorer.ui.plane import Plane
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.settings import Settings
from ldm_explorer.ui.stage import Frame, Picture, Shot, Show, Side, stage

NAME = "velocity"
TITLE = "Velocity"
QUESTION = "What is velocity?"
WORK = LIGHT
NUM_FRAMES = 21
COLUMNS = (
    *("t", "abar", "a", "b", "s", "a_s", "b_s"),
    *("z_t", "v", "a z_t − b v", "b z_t + a v", "z_s", "RMS of z_t", "RMS of v", "RMS of z_s"),
    *("mean squares of z_t and v", "cosine of z_t and v"),
)
IN_SHORT = (
    "A noisy latent $z_t$ lies on a circle, as $a^2 + b^2 = 1$. The velocity $v$ is the tangent there: who predicts "
    "$v$ has $z_0$ and $\\epsilon$."
)
DERIVATION = r"""Write $a = \cos\phi$ and $b = \sin\phi$. Then $z_t$ moves along a circle, and $v$ is how fast it moves
as $\phi$ grows:

$$z_t = \cos\phi\; z_0 + \sin\phi\; \epsilon$$

$$v = \frac{dz_t}{d\phi} = -\sin\phi\; z_0 + \cos\phi\; \epsilon = a\,\epsilon - b\,z_0$$

The pair $(z_t, v)$ is $(z_0, \epsilon)$ in axes turned by $\phi$, and turning them back is the transposed matrix:

$$\begin{pmatrix} z_t \\ v \end{pmatrix} = \begin{pmatrix} a & b \\ -b & a \end{pmatrix}
\begin{pmatrix} z_0 \\ \epsilon \end{pmatrix}$$

$$z_0 = a\,z_t - b\,v, \qquad \epsilon = b\,z_t + a\,v$$

Nothing is divided here. From $\epsilon$, $z_0 = (z_t - b\,\epsilon)/a$ divides by $a$, nearly 0 for the last $t$;
from $z_0$, $\epsilon = (z_t - a\,z_0)/b$ divides by $b$, nearly 0 for the first.

A DDIM step from $t$ to an earlier $s$ (usually called $t - 1$) mixes the same $z_0$ and $\epsilon$ in the share of $s$;
put in, it turns $z_t$ back by the angle between them:

$$\begin{aligned} z_s &= a_s\,z_0 + b_s\,\epsilon \\ &= a_s\,(a\,z_t - b\,v) + b_s\,(b\,z_t + a\,v) \\
&= \cos(\phi - \phi_s)\,z_t - \sin(\phi - \phi_s)\,v \end{aligned}$$
"""


class VelocitySettings(Settings):
    """An image's latent and one noise, mixed along a checkpoint's schedule."""

    checkpoint: settings.Checkpoint
    class_name: settings.ClassName
    number: settings.Number = 1
    upload: settings.Upload = None
    seed: settings.Seed = 0
    stride: settings.Stride = DEFAULT_STRIDE


SETTINGS = VelocitySettings


def build(library: Library) -> list[gr.components.Component]:
    gr.Markdown(IN_SHORT, latex_delimiters=MATH)
    shown = [stage()]
    with gr.Row(elem_classes="ldm-follow"):
        shown.append(gr.Plot(show_label=False, min_width=320))
    checkpoint = gr.Textbox(default_checkpoint(library), visible="hidden", max_length=300, label="Checkpoint")
    build_checker(library, checkpoint)
    with gr.Accordion("Where the formulas come from", open=False):
        gr.Markdown(DERIVATION, latex_delimiters=MATH)
    with gr.Accordion("Numbers at every timestep", open=False):
        shown.append(gr.HTML())
    return [*shown, checkpoint]


def answer(library: Library, chosen: VelocitySettings, beside: VelocitySettings | None) -> Iterator[tuple]:
    """One latent and one noise along the checkpoint's own schedule, and along B's; the numbers of both as a table."""
    runs = [run for run in (chosen, beside) if run]
    views = [_views(library, run) for run in runs]
    checkpoints = [library.get(run.checkpoint) for run in runs]
    decoded = [decode_latents(checkpoint, of_run) for checkpoint, of_run in zip(checkpoints, views, strict=True)]
    sides = [Side(checkpoint.name, _facts(of_run[0])) for checkpoint, of_run in zip(checkpoints, views, strict=True)]
    show = Show(repr((chosen, beside)), "Timestep", NUM_FRAMES, sides, open_at=NUM_FRAMES // 3)
    for moments, images in zip(zip(*views, strict=True), zip(*decoded, strict=True), strict=True):
        pictures = [_pictures(view, latents) for view, latents in zip(moments, images, strict=True)]
        show.add(Frame(f"t = {moments[0].t}", moments[0].t, pictures))
    schedules = [(checkpoint.name, schedule_of(checkpoint)) for checkpoint in checkpoints]
    figure = coefficient_figure([(name, alpha_bars) for name, (alpha_bars, _) in schedules])
    numbers = join(_numbers(whose, of_run) for (_, (_, whose)), of_run in zip(schedules, views, strict=True))
    yield show.end(" ".join(chosen_image(library, chosen).notes)), figure, numbers, chosen.checkpoint


def _views(library: Library, run: VelocitySettings) -> list[VelocityView]:
    pixels = chosen_image(library, run).pixels
    return view_schedule(library.get(run.checkpoint), pixels, run.seed, run.stride, NUM_FRAMES)


def _facts(view: VelocityView) -> list[tuple[str, str]]:
    return [
        ("RMS of z0 and ε", f"{rms(view.z0):.2f} and {rms(view.eps):.2f}, 1 in training"),
        ("cosine between them", f"{cosine(view.z0, view.eps):.3f}, 0 in the plane"),
    ]


def _pictures(view: VelocityView, decoded: dict) -> list[Picture]:
    (a, b), (a_s, b_s) = view.amplitudes, view.amplitudes_s
    return [
        Plane(a, b, a_s, b_s, f"φ = {math.degrees(view.angle):.0f}°", f"t = {view.t}: a = {a:.3f}, b = {b:.3f}"),
        Shot(decoded["z_t"], "z_t = a z0 + b ε", "decoded: what a network sees", slot="noisy"),
        Shot(decoded["v"], "v = a ε − b z0", "decoded: what a v-network predicts", slot="predicted"),
        Shot(decoded["z0"], "z0", "the latent of the image", size="small"),
        Shot(decoded["eps"], "ε", "the noise", size="small"),
        Shot(decoded["z_s"], "z_s", f"one DDIM step on, at {_step(view.s)}", size="small"),
    ]


def _step(s: int) -> str:
    return "the clean end" if s == CLEAN else f"s = {s}"


def _numbers(whose: str, views: Sequence[VelocityView]) -> Markup:
    """A row of numbers for every timestep, and what a turn of axes keeps."""
    first = views[0]
    place = (0, first.z0.shape[1] // 2, first.z0.shape[2] // 2)
    rows = [_row(view, place) for view in views]
    squares = rms(first.z0) ** 2 + rms(first.eps) ** 2
    words = (
        f"On {whose}. One value of each latent, where z0 is {float(first.z0[place]):.3f} and eps is "
        f"{float(first.eps[place]):.3f}: both come back as a z_t − b v and b z_t + a v. RMS: root of the mean "
        f"square of all values. A turn keeps lengths: mean squares of z0 and eps add up to {squares:.4f}, and so do "
        "those of z_t and v."
    )
    csv = "\n".join(",".join(row) for row in [COLUMNS, *rows])
    numbers = scrolling(table(COLUMNS, rows), f"numbers of the latents on {whose}")
    return html("<p>{}</p>{}{}", words, numbers, csv_link(csv, "Velocity"))


def _row(view: VelocityView, place: tuple[int, int, int]) -> list[str]:
    (a, b), (a_s, b_s) = view.amplitudes, view.amplitudes_s
    at_t = [str(view.t), f"{float(view.alpha_bar):.4g}", f"{a:.4f}", f"{b:.4f}"]
    at_s = ["clean" if view.s == CLEAN else str(view.s), f"{a_s:.4f}", f"{b_s:.4f}"]
    values = [view.z_t, view.v, view.z0_back, view.eps_back, view.z_s]
    squares = rms(view.z_t) ** 2 + rms(view.v) ** 2
    return [
        *at_t,
        *at_s,
        *(f"{float(latent[place]):.3f}" for latent in values),
        *(f"{rms(latent):.3f}" for latent in (view.z_t, view.v, view.z_s)),
        f"{squares:.4f}",
        f"{cosine(view.z_t, view.v):.3f}",
    ]
