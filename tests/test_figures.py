import json

import pytest

from ldm_explorer.explore.library import open_library
from ldm_explorer.explore.schedule import compare_schedules
from ldm_explorer.explore.training_run import read_run
from ldm_explorer.figures.loss import FLOOR_LABELS, timestep_figure
from ldm_explorer.figures.schedules import beta_figures, signal_figures
from ldm_explorer.figures.style import FLOOR_COLORS, FLOOR_DASHES, SCHEDULE_COLORS
from ldm_explorer.figures.training import training_figure
from ldm_explorer.schedules import FLOW, SCHEDULES, FlowSchedule


def test_every_schedule_has_a_colour_of_its_own():
    assert {*SCHEDULES, FLOW} == set(SCHEDULE_COLORS)
    assert len(set(SCHEDULE_COLORS.values())) == len(SCHEDULE_COLORS)


def test_schedules_and_floors_are_told_apart_in_grey_too():
    figures = signal_figures([*compare_schedules(100, 1e-4, 0.02), FlowSchedule(100)])
    dashes = [trace.line.dash for trace in figures.signal_share.data]
    assert len(set(dashes)) == len(SCHEDULES) + 1
    assert len(set(FLOOR_DASHES.values())) == len(FLOOR_COLORS)
    assert [f"<b>{name}</b>" for name in (*SCHEDULES, FLOW)] == [
        note.text for note in figures.signal_share.layout.annotations if note.text
    ]


@pytest.mark.parametrize("num_timesteps", [10, 400, 4000])
def test_the_plot_shows_the_schedule_own_tensors(num_timesteps):
    schedules = compare_schedules(num_timesteps, 1e-4, 0.02)
    figures, signal = beta_figures(schedules), signal_figures(schedules)
    for index, schedule in enumerate(schedules):
        for figure, tensor in (
            (figures.beta, schedule.betas),
            (figures.alpha, schedule.alphas),
            (signal.signal_share, schedule.alpha_bars),
            (signal.log_snr, schedule.snr.log()),
        ):
            trace = figure.data[index]
            assert trace.name == schedule.name
            assert list(trace.y) == tensor[list(trace.x)].tolist()
            assert trace.x[-1] == num_timesteps - 1
            assert len(trace.x) <= 501


def test_a_flow_is_drawn_up_to_where_no_signal_is_left():
    signal = signal_figures([FlowSchedule(10)])
    (share,), (log_snr,) = signal.signal_share.data, signal.log_snr.data
    assert (share.x[-1], share.y[-1]) == (9, 0)
    assert share.y[4] == pytest.approx(0.5)
    assert log_snr.x[-1] == 8
    assert log_snr.y[4] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("norms", [(1e-3, 1e6), (0.05, 3.0), (0.11, 0.19), (1.0, 1.0)])
def test_a_gradient_norm_has_ticks_that_do_not_overlap_on_a_phone(run_with_losses, tmp_path, norms):
    log = run_with_losses([0.9, 0.5]).folder / "train_log.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    lines = [json.dumps(record | {"grad_norm": norm}) for record, norm in zip(records, norms, strict=True)]
    log.write_text("\n".join(lines) + "\n")
    figure = training_figure((read_run(open_library(tmp_path), "run"),))
    (axis,) = figure.select_yaxes({"type": "log"})
    assert 1 <= len(axis.tickvals) <= 4
    assert all(norms[0] <= tick <= norms[1] for tick in axis.tickvals)


def test_the_loss_is_drawn_beside_its_floors(run_with_losses, tmp_path):
    run_with_losses([0.9, 0.5])
    report = read_run(open_library(tmp_path), "run")
    traces = {trace.name: trace for trace in training_figure((report,)).data}
    assert traces["validation"].y == (0.9, 0.5)
    floors = {FLOOR_LABELS[name]: name for name in report.floors if name not in ("zero", "memorising")}
    assert len(floors) == 4
    for label, name in floors.items():
        assert traces[label].y[0] == pytest.approx(report.mean_floors[name])
    per_timestep = {trace.name: trace for trace in timestep_figure((report,), 200).data}
    assert set(per_timestep) == {"validation, step 2", *floors}
    assert per_timestep["white floor"].y[-1] == pytest.approx(float(report.floors["white"][-1]))
