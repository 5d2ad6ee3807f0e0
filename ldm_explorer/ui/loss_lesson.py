"""A lesson of the training room: why did the loss stop at 0.34?"""

from typing import Any

from ldm_explorer.explore.report import REPORTED_LOSS, Stage, WhiteFloorCurve, read_stages, white_floor_curves
from ldm_explorer.explore.training_moments import KNOWS
from ldm_explorer.explore.training_words import TARGETS
from ldm_explorer.figures.report import scale_figure, stages_figure
from ldm_explorer.ui.html import Markup, html, join
from ldm_explorer.ui.loss_curve import floor_facts, loss_curve
from ldm_explorer.ui.pictures import grid
from ldm_explorer.ui.stage import Frame, Shot, Show, Side

TITLE = f"Why did the loss stop at {REPORTED_LOSS}?"
STORY = (
    "Students trained a latent diffusion model at a university. Their loss stopped at 0.34 and became unstable, the "
    "images never got better, and nothing they had told them why. Here a setting that fails in the same way is built "
    "on Fashion-MNIST, with one small network, and fixed step by step. It stops at .27 and not at .34, and nothing in "
    "it becomes unstable: what is shown is the mechanism."
)
HYPOTHESIS = (
    "<h3>What 0.34 may have been</h3><p>A network that knows nothing but the scale of the latents, because it learned "
    "no more or because there is no more in them, predicts a share of z_t as noise. Its loss stands at the <b>white "
    "floor</b> of that scale, however long it trains. {} This is a hypothesis that fits, no more: the data are not "
    "here, and other causes give the same number, as every curve crosses the line. What tells them apart is the "
    "standard deviation of the latents and the schedule, written next to the loss.</p>"
)
FLOORS = ("white", "gaussian", "gaussian_per_class", "memorising_per_class")


def show_lesson(key: str) -> tuple[dict[str, Any], Any, Any, Markup]:
    """The runs in order as a show, the white floors over the latents' scale, the losses, and the story. Raises
    `ValueError` for an installation without the runs of the lab."""
    stages, curves = read_stages(), white_floor_curves()
    show = Show(key, "Fix", len(stages), [Side(f"{TITLE} Four runs, each fixed further")], open_at=0)
    for number, stage in enumerate(stages, 1):
        show.add(_frame(number, stage))
    return show.end(), scale_figure(curves), stages_figure(stages), _story(stages, curves)


def _frame(number: int, stage: Stage) -> Frame:
    """What was changed, what the loss says then, and what is generated; it lies where its latents' scale does."""
    reading, floors = stage.reading, stage.reading.mean_floors
    loss = reading.validation_last_tenth
    curve = loss_curve(
        (reading.images, reading.loss),
        (reading.validation_images, reading.validation_loss),
        {name: floors[name] for name in FLOORS if name in floors},
        (reading.images[0] / 4, reading.images[-1]),
        (reading.images[-1], loss),
        f"of the predicted {TARGETS[reading.prediction_type]}: {KNOWS[reading.rung]}",
    )
    facts = [("loss", f"{loss:.3f}"), ("zero floor", f"{floors['zero']:.3f}")]
    facts += floor_facts({name: floors[name] for name in FLOORS if name in floors})
    facts.append(("std about the mean latent", f"{stage.std:.2f}"))
    return Frame(
        f"{number}. {stage.title}",
        stage.std,
        [[Shot(grid(stage.images), "Generated", "one of each class, 25 evaluations", slot="result"), curve]],
        [facts],
        f"{stage.change} {reading.sentence()}",
    )


def _story(stages: tuple[Stage, ...], curves: tuple[WhiteFloorCurve, ...]) -> Markup:
    commands = join(html("<li>{}: <code>{}</code></li>", stage.title, stage.command) for stage in stages)
    return html("<p>{}</p>{}<h3>The runs</h3><ol>{}</ol>", STORY, hypothesis(curves), commands)


def hypothesis(curves: tuple[WhiteFloorCurve, ...]) -> Markup:
    """The scales whose white floor is the reported loss, in words."""
    fits = [
        f"{std:.2f} with the {curve.schedule} schedule of {curve.num_timesteps:,} steps"
        for curve in curves
        if (std := curve.std_of(REPORTED_LOSS)) is not None
    ]
    sentence = f"{REPORTED_LOSS} is the floor of latents of standard deviation {', '.join(fits[:-1])} or {fits[-1]}."
    return html(HYPOTHESIS, sentence)
