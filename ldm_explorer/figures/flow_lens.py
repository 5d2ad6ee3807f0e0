"""A sampling path beside the straight line from its start to its end."""

from collections.abc import Sequence

import plotly.graph_objects as go

from ldm_explorer.explore.flow_lens import FlowLens
from ldm_explorer.figures.style import LATENT_COLORS, REFERENCE_LINE, as_text, styled, title_in_legend

_DASHES = ("solid", "dash")


def flow_lens_figure(lenses: Sequence[tuple[str, FlowLens]]) -> go.Figure:
    """How far off the chord over how far along it, in either coordinates; a solid line for A, a dashed one for B."""
    figure = go.Figure()
    for (name, lens), dash in zip(lenses, _DASHES, strict=False):
        whose = f", {as_text(name)}" if len(lenses) > 1 else ""
        for path, which, like in ((lens.own, "z_t", "z_t"), (lens.flow, "a flow's x", "z0")):
            along, off = path.off_chord
            figure.add_scatter(
                x=along.tolist(),
                y=off.tolist(),
                customdata=lens.s.tolist(),
                name=f"{which}: {path.straightness:.2f} times its chord{whose}",
                mode="lines+markers",
                line={"color": LATENT_COLORS[like], "width": 2.5, "dash": dash},
                hovertemplate="s = %{customdata:.3f}: %{y:.3f} off",
            )
    figure.add_scatter(x=[0, 1], y=[0, 0], mode="lines", name="straight", line=REFERENCE_LINE, hoverinfo="skip")
    return title_in_legend(
        styled(
            figure,
            "How far off the straight line, in its lengths",
            x_title="how far along it: 0 is noise, 1 the image",
            hovermode="closest",
        )
    )
