"""Tab: what is velocity?"""

import gradio as gr
from torch import Tensor

from ldm_explorer.explore.formula import Trial, Verdict, check_formula
from ldm_explorer.explore.formula_syntax import MAX_CHARACTERS, QUANTITIES
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.velocity import (
    CLEAN,
    VelocityView,
    cosine,
    decode_latents,
    rms,
    schedule_of,
    view_velocity,
)
from ldm_explorer.figures.velocity import coefficient_figure, plane_figure
from ldm_explorer.ui.common import SharedChoices, answer_changes, bind, chosen_image, opening
from ldm_explorer.ui.html import Markup, html, join, table
from ldm_explorer.ui.pictures import Picture, notice, picture_row, scrolling

TITLE = "What is velocity?"
WHAT_TO_LOOK_AT = (
    "A noisy latent is $z_t = a\\, z_0 + b\\, \\epsilon$ with $a = \\sqrt{\\bar\\alpha_t}$ and "
    "$b = \\sqrt{1 - \\bar\\alpha_t}$. As $a^2 + b^2 = 1$, it lies on a circle, and the velocity "
    "$v = a\\, \\epsilon - b\\, z_0$ is the tangent there: move $t$ and see both turn by the same angle $\\phi$. "
    "A network that predicts $v$ thereby predicts $z_0$ and $\\epsilon$."
)
DERIVATION = r"""### Where the formulas come from
Write $a = \cos\phi$ and $b = \sin\phi$. Then $z_t$ moves along a circle, and $v$ is how fast it moves as $\phi$ grows:

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
CHECKER = r"""### Check a formula
Type a formula for $z_0$, $\epsilon$, $v$, $z_t$ or $z_{t-1}$ in terms of the others. It is compared by exact algebra
and on numbers along the schedule. The example is a line from a report on a training that failed, which multiplies $v$
by $z_0$, too:

$$\epsilon \neq \frac{v_4 + \sqrt{1-\bar\alpha_3}}{\sqrt{\bar\alpha_3}}\; z_0$$

Solving $v = a\,\epsilon - b\,z_0$ for $\epsilon$ gives

$$\epsilon = \frac{v + \sqrt{1-\bar\alpha_t}\; z_0}{\sqrt{\bar\alpha_t}} = \frac{v + b\,z_0}{a}$$
"""
SPELLING = (
    "Write `z0`, `eps`, `v`, `z_t`, `z_s` (or `z_{t-1}`), `a`, `b`, `abar` at $t$ and `a_s`, `b_s`, `abar_s` at $s$, "
    "numbers, `+ - * / ^`, brackets and `sqrt(...)`. An index that is a number, as in `v_4`, means $t$; `ε`, `ᾱ`, `√` "
    "and `²` are understood."
)
MATH = [{"left": "$$", "right": "$$", "display": True}, {"left": "$", "right": "$", "display": False}]

RIGHT = {
    "z0": "z0 = a*z_t - b*v",
    "eps": "eps = (v + b*z0) / a",
    "v": "v = a*eps - b*z0",
    "z_t": "z_t = a*z0 + b*eps",
    "z_s": "z_s = a_s*(a*z_t - b*v) + b_s*(b*z_t + a*v)",
}
WRONG = {
    "the report's line": "eps = (v_4 + sqrt(1 - abar_3)) / sqrt(abar_3) * z_0",
    "a sign lost": "z0 = a*z_t + b*v",
    "a and b mixed up": "eps = a*z_t + b*v",
    "no square root": "z_t = abar*z0 + (1 - abar)*eps",
    "the step's noise forgotten": "z_s = a_s*(a*z_t - b*v)",
}
EXAMPLES = [(f"wrong: {what}", formula) for what, formula in WRONG.items()]
EXAMPLES += [(f"right: {formula}", formula) for formula in RIGHT.values()]
_WHAT = {
    "z0": "the latent of the image",
    "eps": "the noise",
    "z_t": "a z0 + b eps, what the network sees",
    "v": "a eps − b z0, what a network of v-prediction gives",
    "z_s": "after one DDIM step",
}


def show_velocity(
    library: Library,
    checkpoint: str,
    class_name: str,
    number: float,
    upload: str | None,
    seed: float,
    t: float,
    stride: float,
):
    """One latent at t and a DDIM step from it: the (z0, eps) plane and a, b over t as Plotly figures, the latents
    decoded and in numbers as HTML."""
    image, chosen = chosen_image(library, checkpoint, class_name, number, upload), library.get(checkpoint)
    alpha_bars, whose = schedule_of(chosen)
    last = len(alpha_bars) - 1  # t may be of another checkpoint's longer schedule, just after this one was chosen
    view = view_velocity(chosen, image.pixels, int(seed), min(int(t), last), int(stride))
    decoded = decode_latents(chosen, view)
    pictures = picture_row(
        [Picture(decoded[name], name, what) for name, what in _WHAT.items()],
        f"{image.caption}, noise of seed {int(seed)}, each latent decoded",
    )
    return plane_figure(view), coefficient_figure(view), notice(image.notes) + pictures, _numbers(view, whose)


def check(library: Library, checkpoint: str, quantity: str, formula: str) -> Markup:
    """Say as HTML that a formula for z0, eps, v, z_t or z_s is right, or name the wrong term and a counter-example."""
    alpha_bars, _ = schedule_of(library.get(checkpoint))
    return _verdict(check_formula(formula, quantity, alpha_bars))


def check_example(library: Library, checkpoint: str, formula: str):
    """The quantity and text of an example formula, and what there is to say about it as HTML."""
    alpha_bars, _ = schedule_of(library.get(checkpoint))
    verdict = check_formula(formula, alpha_bars=alpha_bars)
    return verdict.formula.quantity, formula, _verdict(verdict)


def offer_steps(library: Library, checkpoint: str, t: float):
    """The steps to choose from, where another checkpoint has a schedule of another length."""
    last = len(schedule_of(library.get(checkpoint))[0]) - 1
    return gr.update(maximum=last, value=min(int(t), last))


def _numbers(view: VelocityView, whose: str) -> Markup:
    place = (0, view.z0.shape[1] // 2, view.z0.shape[2] // 2)
    where = "the clean end" if view.s == CLEAN else f"s = {view.s}"
    rows = [
        ("z0", view.z0),
        ("eps", view.eps),
        ("z_t = a z0 + b eps", view.z_t),
        ("v = a eps − b z0", view.v),
        ("a z_t − b v = z0 again", view.z0_back),
        ("b z_t + a v = eps again", view.eps_back),
        ("z_s = a_s z0 + b_s eps", view.z_s),
    ]
    cells = [(name, f"{float(latent[place]):.3f}", f"{rms(latent):.3f}") for name, latent in rows]
    numbers = scrolling(table(("latent", "one value", "RMS of all"), cells), "numbers of the latents")
    words = (
        f"On {whose}: t = {view.t}, {_coefficients(view.alpha_bar)}; {where}, {_coefficients(view.alpha_bar_s, '_s')}."
    )
    return html("<p>{}</p>{}<p>{}</p>", words, numbers, _lengths(view))


def _coefficients(alpha_bar: Tensor, index: str = "") -> str:
    a, b = float(alpha_bar.sqrt()), float((1 - alpha_bar).sqrt())
    return f"abar{index} = {float(alpha_bar):.4g}, a{index} = {a:.4f}, b{index} = {b:.4f}"


def _lengths(view: VelocityView) -> str:
    before, after = rms(view.z0) ** 2 + rms(view.eps) ** 2, rms(view.z_t) ** 2 + rms(view.v) ** 2
    return (
        f"A turn keeps lengths: mean squares of z0 and eps add up to {before:.4f}, those of z_t and v to {after:.4f}. "
        f"The right angle of the plane is one of coefficients; between these latents the cosine of z0 and eps is "
        f"{cosine(view.z0, view.eps):.3f}, of z_t and v {cosine(view.z_t, view.v):.3f}. RMS: root of the mean square."
    )


def _verdict(verdict: Verdict) -> Markup:
    kind, mark = ("right", "✓") if verdict.right else ("wrong", "✗")
    paragraphs = [html("<b>{} <code>{}</code></b>", mark, verdict.formula), verdict.sentence()]
    if verdict.counter_example:
        paragraphs.append(_example(verdict, verdict.counter_example))
        paragraphs.append(html("One that is right: <code>{}</code>", RIGHT[verdict.formula.quantity]))
    text = join(html("<p>{}</p>", paragraph) for paragraph in paragraphs)
    return html('<div class="ldm-verdict {}" role="status">{}</div>', kind, text)


def _example(verdict: Verdict, trial: Trial) -> str:
    letters, quantity = trial.letters(), verdict.formula.quantity
    step = f"t = {trial.t} (abar = {trial.alpha_bar:.4g}, a = {letters['a']:.4g}, b = {letters['b']:.4g})"
    if "_s" in str(verdict.formula):
        step += f" and s = {trial.s} (a_s = {letters['a_s']:.4g}, b_s = {letters['b_s']:.4g})"
    given = "has no value" if trial.given is None else f"is {float(trial.given):.5g}"
    return (
        f"For example at {step}: with z0 = {trial.z0:g} and eps = {trial.eps:g} the right side {given}, "
        f"while {quantity} is {float(trial.needed):.5g}."
    )


def build(library: Library, shared: SharedChoices) -> None:
    """Lay out the tab inside the current Blocks."""
    gr.Markdown(WHAT_TO_LOOK_AT, latex_delimiters=MATH)
    last = len(schedule_of(library.get(shared.checkpoint.value))[0]) - 1
    with gr.Row():
        t = gr.Slider(
            0, last, last // 2, step=1, label="Timestep t", info="0: hardly any noise; the last: almost only noise"
        )
        stride = gr.Slider(1, 1000, 150, step=1, label="One DDIM step: t − s", info="to s = t − 1, or further back")
    handler = bind(show_velocity, library)
    inputs = [*shared.image, shared.seed, t, stride]
    plane, coefficients, pictures, numbers = opening(handler, inputs)
    with gr.Row():
        with gr.Column(min_width=320):
            shown = [gr.Plot(figure, show_label=False) for figure in (plane, coefficients)]
        with gr.Column(min_width=320):
            shown += [gr.HTML(pictures), gr.HTML(numbers)]
    answer_changes(handler, inputs, shown, "show_velocity")
    shared.checkpoint.change(
        bind(offer_steps, library), [shared.checkpoint, t], t, api_visibility="private", show_progress="hidden"
    )
    gr.Markdown(DERIVATION, latex_delimiters=MATH)
    _build_checker(library, shared)


def _build_checker(library: Library, shared: SharedChoices) -> None:
    gr.Markdown(CHECKER, latex_delimiters=MATH)
    first = EXAMPLES[0][1]
    with gr.Row():
        example = gr.Dropdown(EXAMPLES, value=first, label="Examples", min_width=260)
        quantity = gr.Dropdown(
            list(QUANTITIES), value="eps", label="Formula for", info="unless the text says so", min_width=140
        )
        formula = gr.Textbox(
            first,
            label="Formula",
            info=f"up to {MAX_CHARACTERS} characters",
            placeholder="eps = ...",
            max_lines=1,
            scale=2,
            min_width=300,
        )
    button = gr.Button("Check", variant="primary")
    verdict = gr.HTML(check(library, shared.checkpoint.value, "eps", first))
    gr.Markdown(SPELLING, latex_delimiters=MATH)
    gr.on(
        [button.click, formula.submit],
        bind(check, library),
        [shared.checkpoint, quantity, formula],
        verdict,
        api_name="check_formula",
        api_description=check.__doc__,
        show_progress="hidden",
    )
    example.input(
        bind(check_example, library),
        [shared.checkpoint, example],
        [quantity, formula, verdict],
        api_visibility="private",
        show_progress="hidden",
    )
