"""Latent sizes against one another."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ldm_explorer.explore.latent_size import SizeReport
from ldm_explorer.figures.style import CHECKPOINT_COLORS, styled


def size_figure(reports: tuple[SizeReport, ...]) -> go.Figure:
    """Left: PSNR beside PCA of as many values. Right: rFD and FD. One colour per checkpoint."""
    titles = ("reconstruction: PSNR in dB, higher is better", "feature FD in % (log scale), lower is better")
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.12)
    for report in reports:
        marker = {"color": CHECKPOINT_COLORS[report.color_index % len(CHECKPOINT_COLORS)]}
        bars = {"name": report.name, "legendgroup": report.name, "hovertemplate": "%{x}: %{y:.3g}"}
        psnr = [report.psnr_db, report.pca_psnr_db]
        figure.add_trace(go.Bar(x=["autoencoder", "PCA, as many values"], y=psnr, marker=marker, **bars), 1, 1)
        distances = [report.rfd_percent, report.fd_percent]
        x = ["rFD: reconstructions", "FD: samples"]
        figure.add_trace(go.Bar(x=x, y=distances, marker=marker, showlegend=False, **bars), 1, 2)
    figure.update_layout(barmode="group")
    figure.update_yaxes(type="log", row=1, col=2)
    figure.update_annotations(font_size=14)
    return styled(figure, 360).update_layout(hovermode="closest")
