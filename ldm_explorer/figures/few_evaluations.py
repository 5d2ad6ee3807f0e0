"""Feature FD against the number of evaluations of the network."""

import plotly.graph_objects as go

from ldm_explorer.evaluation.measures import MEASURES
from ldm_explorer.explore.few_evaluations import FewEvaluations
from ldm_explorer.figures.latent_size import ROUND_NUMBERS
from ldm_explorer.figures.style import (
    MARKER_COLOR,
    REFERENCE_LINE,
    SAMPLER_COLORS,
    STUDENT_COLOR,
    as_text,
    styled,
    title_in_legend,
)

MIN_RATIO = 1.3
"""Between two numbers under the axis."""


def few_evaluations_figure(measured: FewEvaluations) -> go.Figure:
    """A curve per sampler and a point per student, both axes on log scales, beside rFD and the floor."""
    figure = go.Figure()
    for sampler, distances in measured.fd_percent.items():
        figure.add_scatter(
            x=list(measured.evaluations),
            y=list(distances),
            name=as_text(sampler),
            mode="lines+markers",
            line={"color": SAMPLER_COLORS.get(sampler, MARKER_COLOR), "width": 3},
            hovertemplate="%{x} evaluations: %{y:.3g} %",
        )
    if measured.students:
        _add_students(figure, measured)
    rfd, floor = MEASURES["rfd_percent"].title, f"floor: {MEASURES['fd_floor_percent'].label}"
    references = {rfd: measured.rfd_percent, floor: measured.fd_floor_percent}
    counts = sorted({*measured.evaluations, *(count for count, _ in measured.students.values())})
    ends = [counts[0], counts[-1]]
    for (name, value), dash in zip(references.items(), ("dash", "dot"), strict=True):
        if value is not None:
            line = REFERENCE_LINE | {"dash": dash}
            figure.add_scatter(x=ends, y=[value] * 2, name=name, mode="lines", line=line, hovertemplate="%{y:.3g} %")
    figure.update_xaxes(type="log", tickvals=_apart(counts), tickangle=0)
    figure.update_yaxes(type="log", tickvals=ROUND_NUMBERS)
    fd = MEASURES["fd_percent"]
    title = f"{fd.in_units} of {measured.num_images:,} samples of one seed, {fd.goal}"
    return title_in_legend(styled(figure, title, x_title="evaluations of the network", hovermode="closest"))


def _apart(counts: list[int]) -> list[int]:
    """Those whose numbers also have room on a phone."""
    named = counts[:1]
    for count in counts[1:]:
        if count >= MIN_RATIO * named[-1]:
            named.append(count)
    return named


def _add_students(figure: go.Figure, measured: FewEvaluations) -> None:
    """A point each, with the evaluations that it was distilled to."""
    counts, distances = zip(*measured.students.values(), strict=True)
    figure.add_scatter(
        x=list(counts),
        y=list(distances),
        name="students",
        mode="markers",
        marker={"symbol": "star-diamond", "size": 13, "color": STUDENT_COLOR},
        customdata=[as_text(name) for name in measured.students],
        hovertemplate="%{customdata}, %{x} evaluations: %{y:.3g} %",
    )
