"""A loss that can be read: beside what knowing the scale, the covariance or the class's covariance would reach."""

import plotly.graph_objects as go

from ldm_explorer.evaluation.measures import MEASURES
from ldm_explorer.explore.training_run import PER_BIN, RunReport
from ldm_explorer.figures.style import (
    FLOOR_COLORS,
    FLOOR_DASHES,
    VALIDATION_COLOR,
    as_text,
    plotted_timesteps,
    run_colors,
    styled,
    title_in_legend,
)

DRAWN = ("white", "gaussian", "gaussian_per_class", "memorising", "memorising_per_class")
FLOOR_LABELS = {name: MEASURES[name].label for name in DRAWN}
CURVE = {"mode": "lines", "hovertemplate": "%{y:.3f}"}


def drawn_floors(report: RunReport, alone: bool = True) -> list[str]:
    """The floors that are drawn of a run; beside another one, the Gaussian one alone."""
    if not alone:
        return [report.gaussian_floor] if report.gaussian_floor else []
    hidden = {"memorising"} if "memorising_per_class" in report.floors else set()
    return [name for name in FLOOR_LABELS if name in report.floors and name not in hidden]


def floor_line(name: str) -> dict:
    """How a floor is drawn in every plot."""
    line = {"color": FLOOR_COLORS[name], "width": 2, "dash": FLOOR_DASHES[name]}
    return {"name": FLOOR_LABELS[name], "line": line, **CURVE}


def timestep_figure(reports: tuple[RunReport, ...], images: int) -> go.Figure:
    """The loss per timestep of the validation nearest to a number of images seen: one run's beside its floors, or two
    runs', each with its Gaussian floor."""
    figure = go.Figure()
    colors = run_colors([report.run.color_index for report in reports])
    for report, color in zip(reports, colors, strict=True):
        validation = report.nearest_validation(images, PER_BIN)
        if validation is None:
            continue
        losses, length = validation[PER_BIN], report.num_timesteps
        centres = [(index + 0.5) * length / len(losses) for index in range(len(losses))]
        alone = len(reports) == 1
        line = {"color": VALIDATION_COLOR if alone else color, "width": 3}
        name = f"validation, step {validation['step']:,}"
        figure.add_scatter(x=centres, y=losses, name=name if alone else as_text(report.run.name), line=line, **CURVE)
        _add_floors(figure, report, None if alone else color)
    figure.update_yaxes(rangemode="tozero")
    return title_in_legend(
        styled(figure, f"validation loss per timestep, after {images:,} images", x_title="timestep t")
    )


def _add_floors(figure: go.Figure, report: RunReport, color: str | None) -> None:
    """The floors of a run, in a colour where it stands beside another one."""
    timesteps = plotted_timesteps(report.num_timesteps)
    for name in drawn_floors(report, alone=color is None):
        trace = floor_line(name)
        if color:
            trace |= {
                "name": f"{as_text(report.run.name)}: {FLOOR_LABELS[name]}",
                "line": trace["line"] | {"color": color},
            }
        figure.add_scatter(x=timesteps, y=report.floors[name][timesteps].tolist(), **trace)
