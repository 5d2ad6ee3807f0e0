"""The panel that reads any log, in the training room: its answer, its figure, and what it refuses."""

import json

import gradio as gr
import pytest
from log_formats import FORMATS

from ldm_explorer.diagnosis.latent_facts import SNIPPET
from ldm_explorer.explore.anyones_log import Known, diagnose_log
from ldm_explorer.explore.library import Library
from ldm_explorer.figures.anyones_log import DRAWN_POINTS, log_figure
from ldm_explorer.schedules import SCHEDULES
from ldm_explorer.ui import anyones_log
from ldm_explorer.ui.anyones_log import NOT_KNOWN, read_log
from ldm_explorer.ui.files import accept_uploads_alone
from ldm_explorer.ui.html import text_in
from ldm_explorer.ui.rooms import training
from ldm_explorer.ui.server.inputs import InputCheck
from ldm_explorer.ui.server.refusals import Refused

POINTS = [(step, 0.2755 + 0.72 / step) for step in range(1, 2001)]
KNOWN = Known("linear", num_timesteps=1000, prediction="epsilon", latents="1")
HOSTILE = "<img src=x onerror=alert(1)>"


def ask(file=None, pasted="", schedule="linear", num_timesteps=1000, prediction="epsilon", latents="1", **options):
    """The answer as text, and its figure."""
    more = {"betas": "", "divide_by": 1, "min_snr": 0, "batch_size": 0} | options
    library = Library({}, (), {}, roots=())
    made, plot = read_log(library, file, pasted, schedule, num_timesteps, prediction, latents, **more)
    return made, plot["value"]


def test_an_upload_and_the_same_text_have_one_answer_which_is_that_of_the_library(tmp_path):
    path = FORMATS["CSV"](tmp_path, POINTS)
    made, figure = ask(str(path))
    assert text_in(made).replace("loss.csv", "") == text_in(ask(pasted=path.read_text())[0]).replace(
        "the pasted text", ""
    )
    assert diagnose_log(path, KNOWN).sentence in text_in(made)
    assert "ldm-verdict wrong" in made
    levels = {trace.name: trace.y[0] for trace in figure.data}
    assert levels["white floor"] == pytest.approx(0.2755, abs=1e-3)


def test_without_facts_the_pairs_stand_in_a_table():
    made, _ = ask(pasted="loss: 0.34", schedule=NOT_KNOWN, prediction=NOT_KNOWN, latents="")
    assert "cannot be told without" in made
    assert "<td>1.46</td>" in made
    assert made.count("<td>v_prediction</td>") == len(SCHEDULES)


def test_a_log_is_not_called_accused():
    text = text_in(ask(pasted="\n".join(f"step {step} loss: 0.34" for step in range(60)))[0])
    assert "Not as it should be" in text
    assert "ccused" not in text


def test_one_value_is_drawn_between_its_floors_alone_and_from_step_0_on():
    unknown = {"schedule": NOT_KNOWN, "prediction": NOT_KNOWN, "latents": ""}
    assert ask(pasted="step 100 loss: 0.34", **unknown)[1] is None
    _, figure = ask(pasted="step 100 loss: 0.34")
    assert figure.layout.xaxis.range == (0, 200)
    assert {trace.name for trace in figure.data} >= {"loss", "white floor"}


def test_how_many_timesteps_there_are_may_not_be_known():
    made, _ = ask(pasted="loss: 0.34", num_timesteps=0)
    assert "cannot be told without the schedule with its number of timesteps" in text_in(made)


def test_a_flow_needs_no_number_of_timesteps():
    of_a_flow = {"latents": "1", "prediction": "u"}
    without, over_many = (
        Known("flow", num_timesteps=num_timesteps, **of_a_flow).facts().floors() for num_timesteps in (None, 10_000)
    )
    assert float(without["white"].mean()) == pytest.approx(float(over_many["white"].mean()), rel=2e-3)
    assert Known("linear", prediction="eps", latents="1").facts().floors() == {}


@pytest.mark.parametrize(
    ("known", "match"),
    [
        ({"schedule": "flow", "prediction": "v"}, "v_prediction along flow: give one of flow, epsilon, sample"),
        ({"schedule": "cosine", "prediction": "u"}, "flow along cosine: give one of"),
        ({"schedule": "foo"}, "unknown schedule 'foo'"),
        ({"beta_end": 0.03}, "a range of betas is given and no schedule"),
        ({"schedule": "flow", "beta_end": 0.03}, "a range of betas is given, and a flow has none"),
    ],
)
def test_what_does_not_go_together_is_refused_also_without_the_number_of_timesteps(known, match):
    with pytest.raises(ValueError, match=match):
        Known(**known).facts()


def test_the_figure_draws_the_loss_in_few_points_between_its_floors():
    reading = diagnose_log("\n".join(["step,loss,val_loss", *(f"{s},{v},{v + 0.01}" for s, v in POINTS)]), KNOWN)
    figure = log_figure(reading)
    names = [trace.name for trace in figure.data]
    assert names[:2] == ["loss", "val_loss"]
    assert "white floor" in names
    assert max(len(trace.x) for trace in figure.data) <= DRAWN_POINTS
    assert figure.data[0].y[-1] == pytest.approx(POINTS[-1][1], rel=1e-3)
    assert figure.layout.yaxis.range[1] > reading.mean_floors["white"]


def test_a_divided_loss_is_drawn_divided_and_a_single_value_as_a_point():
    figure = log_figure(diagnose_log("loss: 34", Known(**vars(KNOWN) | {"divide_by": 100})))
    assert figure.data[0].y == (0.34,)
    assert figure.data[0].mode == "lines+markers"


def test_what_a_log_says_is_text_in_the_page():
    made, figure = ask(pasted=json.dumps([{"step": 1, f"loss{HOSTILE}": 0.5}, {"step": 2, f"loss{HOSTILE}": 0.4}]))
    assert HOSTILE not in made
    assert HOSTILE not in figure.data[0].name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "there is no log"),
        ({"pasted": "nothing"}, "no loss that can be read"),
        ({"file": "/nowhere/log.csv"}, "no longer there"),
        ({"pasted": "loss: 1", "latents": "wide"}, "the latents are 'wide'"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(options, said):
    with pytest.raises(ValueError, match=said):
        ask(**options)


def test_a_large_upload_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(anyones_log, "MAX_LOG_BYTES", 1000)
    with pytest.raises(ValueError, match="the app reads 0"):
        ask(str(FORMATS["CSV"](tmp_path, POINTS)))


def test_only_a_file_that_was_uploaded_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    with gr.Blocks() as app:
        file, output = gr.File(label="Log"), gr.HTML()
        accept_uploads_alone(file)
        file.change(lambda path: path, file, output)
    (fn,) = app.fns.values()
    uploads = tmp_path / "uploads"
    uploads.mkdir(exist_ok=True)
    own, other = uploads / "log.csv", tmp_path / "other.csv"
    own.write_text("loss\n1")
    other.write_text("loss\n1")
    (checked,) = InputCheck(app).check(fn, [{"path": str(own), "url": "http://x"}], None, uploads)
    assert checked == {"path": str(own), "meta": {"_type": "gradio.FileData"}}
    assert file.preprocess(gr.FileData(path=str(own))) == str(own)
    with pytest.raises(Refused, match="a file that was uploaded"):
        InputCheck(app).check(fn, [{"path": str(other)}], None, uploads)
    with pytest.raises(gr.Error, match="give the log as a file"):
        file.preprocess(gr.FileData(path=str(other)))


def test_the_panel_stands_in_the_training_room_with_the_code_that_measures_latents():
    with gr.Blocks() as app:
        training.build(Library({}, (), {}, roots=()))
    assert any(SNIPPET in (block.value or "") for block in app.blocks.values() if isinstance(block, gr.Markdown))
    assert "Read the log" in [block.value for block in app.blocks.values() if isinstance(block, gr.Button)]
