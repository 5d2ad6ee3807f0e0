"""The formula checker: a typed formula of the velocity algebra, by exact algebra and on numbers along a schedule."""

import gradio as gr

from ldm_explorer.explore.formula import Trial, Verdict, check_formula
from ldm_explorer.explore.formula_syntax import MAX_CHARACTERS, QUANTITIES
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.velocity import schedule_of
from ldm_explorer.ui.answers import bind
from ldm_explorer.ui.html import Markup, html, join

CHECKER = r"""### Check a formula
Type a formula for $z_0$, $\epsilon$, $v$, $u$, $z_t$ or $z_{t-1}$ in terms of the others. It is compared by exact
algebra and on numbers along the schedule; one that holds a flow's time $s$ is compared along a flow. The example is a
line from a report on a training that failed, which multiplies $v$ by $z_0$, too:

$$\epsilon \neq \frac{v_4 + \sqrt{1-\bar\alpha_3}}{\sqrt{\bar\alpha_3}}\; z_0$$

Solving $v = a\,\epsilon - b\,z_0$ for $\epsilon$ gives

$$\epsilon = \frac{v + \sqrt{1-\bar\alpha_t}\; z_0}{\sqrt{\bar\alpha_t}} = \frac{v + b\,z_0}{a}$$
"""
SPELLING = (
    "Write `z0`, `eps`, `v`, `z_t`, `z_s` (or `z_{t-1}`), `a`, `b`, `abar` at $t$ and `a_s`, `b_s`, `abar_s` one step "
    "before, numbers, `+ - * / ^`, brackets and `sqrt(...)`. An index that is a number, as in `v_4`, means $t$; `ε`, "
    "`ᾱ`, `√` and `²` are understood. Of a flow write `u = eps - z0`, its time `s` (or `t`; data at 0, noise at 1) and "
    "`s_next` for the step that follows, at which `z_s` is; where both `t` and `s` stand, `s` is that one."
)
MATH = [{"left": "$$", "right": "$$", "display": True}, {"left": "$", "right": "$", "display": False}]

RIGHT = {
    "z0": "z0 = a*z_t - b*v",
    "eps": "eps = (v + b*z0) / a",
    "v": "v = a*eps - b*z0",
    "u": "u = (a + b)*v - (a - b)*z_t",
    "z_t": "z_t = a*z0 + b*eps",
    "z_s": "z_s = a_s*(a*z_t - b*v) + b_s*(b*z_t + a*v)",
}
RIGHT_OF_A_FLOW = {
    "z0": "z0 = z_t - s*u",
    "eps": "eps = z_t + (1 - s)*u",
    "v": "v = (1 - s)*eps - s*z0",
    "u": "u = (z_t - z0) / s",
    "z_t": "z_t = (1 - s)*z0 + s*eps",
    "z_s": "z_s = z_t + (s_next - s)*u",
}
WRONG = {
    "the report's line": "eps = (v_4 + sqrt(1 - abar_3)) / sqrt(abar_3) * z_0",
    "a sign lost": "z0 = a*z_t + b*v",
    "a and b mixed up": "eps = a*z_t + b*v",
    "no square root": "z_t = abar*z0 + (1 - abar)*eps",
    "the step's noise forgotten": "z_s = a_s*(a*z_t - b*v)",
    "v for u": "z0 = z_t - s*v",
    "a flow's time the other way": "z0 = z_t + (1 - s)*u",
    "u the other way": "u = z0 - eps",
}
EXAMPLES = [(f"wrong: {what}", formula) for what, formula in WRONG.items()]
EXAMPLES += [(f"right: {formula}", formula) for formula in [*RIGHT.values(), *RIGHT_OF_A_FLOW.values()]]


def check(library: Library, checkpoint: str, quantity: str, formula: str) -> Markup:
    """Say as HTML that a formula is right, or name the wrong term and a counter-example."""
    schedule, _ = schedule_of(library.get(checkpoint))
    return _verdict(check_formula(formula, quantity, schedule))


def check_example(library: Library, checkpoint: str, formula: str):
    """The quantity and text of an example formula, and what there is to say about it as HTML."""
    schedule, _ = schedule_of(library.get(checkpoint))
    verdict = check_formula(formula, schedule=schedule)
    return verdict.formula.quantity, formula, _verdict(verdict)


def _verdict(verdict: Verdict) -> Markup:
    kind, mark = ("right", "✓") if verdict.right else ("wrong", "✗")
    paragraphs = [html("<b>{} <code>{}</code></b>", mark, verdict.formula), verdict.sentence()]
    if verdict.counter_example:
        paragraphs.append(_example(verdict, verdict.counter_example))
        right = RIGHT if verdict.path == "circle" else RIGHT_OF_A_FLOW
        paragraphs.append(html("One that is right: <code>{}</code>", right[verdict.formula.quantity]))
    text = join(html("<p>{}</p>", paragraph) for paragraph in paragraphs)
    return html('<div class="ldm-verdict {}" role="status">{}</div>', kind, text)


def _example(verdict: Verdict, trial: Trial) -> str:
    letters, quantity = trial.letters(), verdict.formula.quantity
    if trial.path == "circle":
        step = f"t = {trial.t} (abar = {trial.place:.4g}, a = {letters['a']:.4g}, b = {letters['b']:.4g})"
        earlier = f" and a step on, at t = {trial.s} (a_s = {letters['a_s']:.4g}, b_s = {letters['b_s']:.4g})"
    else:
        step, earlier = f"s = {trial.place:g}", f" and s_next = {trial.place_s:g}"
    if "_s" in str(verdict.formula) or "s_next" in str(verdict.formula):
        step += earlier
    given = "has no value" if trial.given is None else f"is {float(trial.given):.5g}"
    return (
        f"For example at {step}: with z0 = {trial.z0:g} and eps = {trial.eps:g} the right side {given}, "
        f"while {quantity} is {float(trial.needed):.5g}."
    )


def build_checker(library: Library, checkpoint: gr.Textbox) -> None:
    """Lay out the checker in the current Blocks; `checkpoint` holds the name of the one whose schedule it tries."""
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
    button = gr.Button("Check")
    verdict = gr.HTML()
    gr.Markdown(SPELLING, latex_delimiters=MATH)
    gr.on(
        [button.click, formula.submit],
        bind(check, library),
        [checkpoint, quantity, formula],
        verdict,
        api_visibility="private",  # programs ask endpoints.py, which answers JSON
        show_progress="hidden",
    )
    example.input(
        bind(check_example, library),
        [checkpoint, example],
        [quantity, formula, verdict],
        api_visibility="private",
        show_progress="hidden",
    )
