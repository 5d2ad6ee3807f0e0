"""Latent sizes against one another."""

import plotly.graph_objects as go

from ldm_explorer.explore.latent_size import SizeReport
from ldm_explorer.figures.style import CHECKPOINT_COLORS, styled


def psnr_figure(reports: tuple[SizeReport, ...]) -> go.Figure:
    """PSNR of each autoencoder beside PCA of as many values."""
    bars = {report: [report.psnr_db, report.pca_psnr_db] for report in reports}
    figure = _bars(["autoencoder", "PCA, as many values"], bars)
    return styled(figure, "reconstruction: PSNR in dB, higher is better", hovermode="closest")


def distance_figure(reports: tuple[SizeReport, ...]) -> go.Figure:
    """rFD and FD of each checkpoint, on a log scale."""
    bars = {report: [report.rfd_percent, report.fd_percent] for report in reports}
    figure = _bars(["rFD: reconstructions", "FD: samples"], bars)
    figure.update_yaxes(type="log", dtick=1)
    return styled(figure, "feature FD in % (log scale), lower is better", hovermode="closest")


def _bars(groups: list[str], values: dict[SizeReport, list[float | None]]) -> go.Figure:
    figure = go.Figure()
    for report, heights in values.items():
        color = CHECKPOINT_COLORS[report.color_index % len(CHECKPOINT_COLORS)]
        figure.add_bar(x=groups, y=heights, name=report.name, marker={"color": color}, hovertemplate="%{x}: %{y:.3g}")
    return figure.update_layout(barmode="group")
