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
from ldm_explorer.ui.sides import in_its_classes
from ldm_explorer.ui.stage import Frame, Picture, Shot, Show, Side, stage

NAME = "velocity"
TITLE = "Velocity"
QUESTION = "What is velocity?"
WORK = LIGHT
NUM_FRAMES = 21
COLUMNS: tuple[str, ...] = (
    *("t", "abar", "a", "b", "next t", "a_s", "b_s"),
    *("z_t", "v", "a z_t − b v", "b z_t + a v", "z_s", "RMS of z_t", "RMS of v", "RMS of z_s"),
    *("mean squares of z_t and v", "cosine of z_t and v"),
)
FLOW_COLUMNS: tuple[str, ...] = (
    *("t", "s", "s_next", "z_t", "u", "z_t − s u", "z_t + (1 − s) u", "z at s_next"),
    *("RMS of z_t", "RMS of u", "RMS of z at s_next", "cosine of z_t and u"),
)
IN_SHORT = (
    "Along betas a noisy latent $z_t$ lies on a circle, as $a^2 + b^2 = 1$, and the velocity $v$ is the tangent there: "
    "who predicts $v$ has $z_0$ and $\\epsilon$. In flow matching it lies on the straight line between these two, and "
    "the velocity is another: $u = \\epsilon - z_0$."
)
TWO_VELOCITIES = r"""
| | $v$, where variance is preserved | $u$, of a flow |
| --- | --- | --- |
| the way | a circle: $z_t = \cos\phi\, z_0 + \sin\phi\, \epsilon$ | a line: $z_t = (1-s)\, z_0 + s\, \epsilon$ |
| the velocity | $v = dz_t/d\phi = a\,\epsilon - b\,z_0$ | $u = dz_t/ds = \epsilon - z_0$ |
| along the way | turns from $\epsilon$ to $-z_0$ | stays the same |
| its RMS, of unit latents | 1 | $\sqrt 2$ |
| back to the image | $z_0 = a\,z_t - b\,v$ | $z_0 = z_t - s\,u$ |
| a step | DDIM: turn by $\phi - \phi_s$ | Euler: $z_t + (s_{next} - s)\,u$ |
| in diffusers | `v_prediction` | `flow_prediction` |
| source | Salimans & Ho 2022 | Lipman et al. 2023, Liu et al. 2023 |

Both point towards noise here, as in diffusers: data lies at $s = 0$. Many papers let time run the other way, with data
at $s = 1$ and $u = z_0 - \epsilon$: a network that was trained so walks backwards in code that is not. Who has one has
the other: where variance is preserved $u = (a+b)\,v - (a-b)\,z_t$.
"""
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

A DDIM step from $t$ to an earlier timestep (usually called $t - 1$; its values have the index $s$ here, which is no
flow's time $s$) mixes the same $z_0$ and $\epsilon$ in the share that holds there; put in, it turns $z_t$ back by the
angle between them:

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
    with gr.Accordion("v or u? Two things are called velocity", open=False):
        gr.Markdown(TWO_VELOCITIES, latex_delimiters=MATH)
    with gr.Accordion("Where the formulas come from", open=False):
        gr.Markdown(DERIVATION, latex_delimiters=MATH)
    with gr.Accordion("Numbers at every timestep", open=False):
        shown.append(gr.HTML())
    return [*shown, checkpoint]


def answer(library: Library, chosen: VelocitySettings, beside: VelocitySettings | None) -> Iterator[tuple]:
    """One latent and one noise along the checkpoint's own schedule, and along B's; the numbers of both as a table."""
    runs = [chosen] if beside is None else [chosen, in_its_classes(library, chosen, beside)]
    views = [_views(library, run) for run in runs]
    checkpoints = [library.get(run.checkpoint) for run in runs]
    decoded = [decode_latents(checkpoint, of_run) for checkpoint, of_run in zip(checkpoints, views, strict=True)]
    sides = [Side(checkpoint.name, _facts(of_run[0])) for checkpoint, of_run in zip(checkpoints, views, strict=True)]
    show = Show(repr((chosen, beside)), "Timestep", NUM_FRAMES, sides, open_at=NUM_FRAMES // 3)
    for moments, images in zip(zip(*views, strict=True), zip(*decoded, strict=True), strict=True):
        pictures = [_pictures(view, latents) for view, latents in zip(moments, images, strict=True)]
        show.add(Frame(_when(moments[0]), moments[0].t, pictures))
    schedules = [(checkpoint.name, schedule_of(checkpoint)) for checkpoint in checkpoints]
    figure = coefficient_figure([(name, schedule) for name, (schedule, _) in schedules])
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
    shares, see = f"a = {a:.3f}, b = {b:.3f}", "decoded: what a network sees"
    ends = [Shot(decoded["z0"], "z0", "the latent of the image", size="small")]
    ends += [Shot(decoded["eps"], "ε", "the noise", size="small")]
    if view.is_flow:
        u = Shot(decoded["u"], "u = ε − z0", "decoded: what a flow's network predicts at any s", slot="predicted")
        next_s = Shot(decoded["z_s"], "z_s", f"one Euler step on, at s = {b_s:.3f}", size="small")
        noisy = Shot(decoded["z_t"], "z_t = (1 − s) z0 + s ε", see, slot="noisy")
        line = Plane(a, b, a_s, b_s, _when(view), f"{shares}; u is drawn half as long", is_flow=True)
        return [line, noisy, u, *ends, next_s]
    return [
        Plane(a, b, a_s, b_s, f"φ = {math.degrees(view.angle):.0f}°", f"{_when(view)}: {shares}"),
        Shot(decoded["z_t"], "z_t = a z0 + b ε", see, slot="noisy"),
        Shot(decoded["v"], "v = a ε − b z0", "decoded: what a v-network predicts", slot="predicted"),
        *ends,
        Shot(decoded["u"], "u = ε − z0", "a flow's velocity, the same at any t", size="small"),
        Shot(decoded["z_s"], "z_s", f"one DDIM step on, at {_step(view.s)}", size="small"),
    ]


def _when(view: VelocityView) -> str:
    return f"s = {view.amplitudes[1]:.3f}, t = {view.told}" if view.is_flow else f"t = {view.t}"


def _step(s: int) -> str:
    return "the clean end" if s == CLEAN else f"t = {s}"


def _numbers(whose: str, views: Sequence[VelocityView]) -> Markup:
    """A row of numbers for every timestep, and what a turn of axes keeps."""
    first = views[0]
    place = (0, first.z0.shape[1] // 2, first.z0.shape[2] // 2)
    back = "z_t − s u and z_t + (1 − s) u" if first.is_flow else "a z_t − b v and b z_t + a v"
    words = (
        f"On {whose}. One value of each latent, where z0 is {float(first.z0[place]):.3f} and eps is "
        f"{float(first.eps[place]):.3f}: both come back as {back}. RMS: root of the mean square of all values."
    )
    if first.is_flow:
        columns, rows = FLOW_COLUMNS, [_flow_row(view, place) for view in views]
        words += " u is the same all along; z_t is shortest in between, where signal and noise halve one another."
    else:
        columns, rows = COLUMNS, [_row(view, place) for view in views]
        squares = rms(first.z0) ** 2 + rms(first.eps) ** 2
        words += (
            f" A turn keeps lengths: mean squares of z0 and eps add up to {squares:.4f}, and so do those of z_t and v."
        )
    csv = "\n".join(",".join(row) for row in [columns, *rows])
    numbers = scrolling(table(columns, rows), f"numbers of the latents on {whose}")
    return html("<p>{}</p>{}{}", words, numbers, csv_link(csv, "Velocity"))


def _flow_row(view: VelocityView, place: tuple[int, int, int]) -> list[str]:
    latents = [view.z_t, view.u, view.z0_back, view.eps_back, view.z_s]
    return [
        *(str(view.told), f"{view.amplitudes[1]:.4f}", f"{view.amplitudes_s[1]:.4f}"),
        *(f"{float(latent[place]):.3f}" for latent in latents),
        *(f"{rms(latent):.3f}" for latent in (view.z_t, view.u, view.z_s)),
        f"{cosine(view.z_t, view.u):.3f}",
    ]


def _row(view: VelocityView, place: tuple[int, int, int]) -> list[str]:
    (a, b), (a_s, b_s) = view.amplitudes, view.amplitudes_s
    at_t = [str(view.t), f"{a**2:.4g}", f"{a:.4f}", f"{b:.4f}"]
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
