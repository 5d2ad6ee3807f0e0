"""`ldm-diagnose --log`: its exit status, its text and JSON, and the reference lines that it writes."""

import io
import json
from contextlib import redirect_stdout

import pytest
import torch
from log_formats import FORMATS

from ldm_explorer import diagnose_log
from ldm_explorer.diagnose import ACCUSED, HEALTHY, REFUSED, UNJUDGED, main
from ldm_explorer.logs import reading
from ldm_explorer.logs.reading import read_log
from ldm_explorer.schedules import SCHEDULES

FACTS = ["--schedule", "linear", "--timesteps", "1000", "--prediction", "epsilon", "--latents", "1"]
POINTS = [(step, 0.2755 + 0.72 / step) for step in range(1, 1001)]


@pytest.fixture
def log(tmp_path) -> str:
    return str(FORMATS["CSV"](tmp_path, POINTS))


def test_the_exit_status_is_that_of_the_diagnosis(log, tmp_path, capsys):
    assert main(["--log", log, *FACTS]) == ACCUSED
    assert "no better than the white floor (0.276)" in " ".join(capsys.readouterr().out.split())
    assert main(["--log", log, *FACTS[:-1], "2"]) == UNJUDGED  # if that is of all values, it may be at the floor
    assert main(["--log", log, *FACTS[:-1], "4"]) == HEALTHY
    assert main(["--log", log]) == UNJUDGED
    assert "linear, T = 1,000, predicts epsilon: std 1.0" in capsys.readouterr().out
    assert main(["--log", str(tmp_path / "gone.csv")]) == REFUSED
    assert main(["--log", log, "--schedule", "no_such", "--timesteps", "10"]) == REFUSED
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith("error: ") for line in said)


def test_json_says_the_same(log, capsys):
    assert main(["--log", log, *FACTS, "--json"]) == ACCUSED
    said = json.loads(capsys.readouterr().out)
    assert (said["rung"], said["outcome"], said["field"]) == ("scale", "accused", "loss")
    assert said["floors"]["zero"] == pytest.approx(1)


def test_a_folder_or_a_log_and_not_both(log, tmp_path, capsys):
    for arguments in ([], [str(tmp_path), "--log", log]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == REFUSED
        assert "a folder, or a log with --log" in capsys.readouterr().err


def test_the_snippet_that_it_prints_runs_and_its_output_is_read_from_a_file(log, tmp_path, capsys):
    assert main(["--snippet"]) == HEALTHY
    latents = torch.randn(400, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    with redirect_stdout(io.StringIO()) as printed:
        exec(capsys.readouterr().out, {"latents": latents})
    facts = tmp_path / "facts.json"
    facts.write_text(printed.getvalue())
    main(["--log", log, *FACTS[:-1], str(facts), "--json"])
    assert set(json.loads(capsys.readouterr().out)["floors"]) == {"zero", "white", "gaussian"}
    facts.write_bytes(b"\xff\xfe\x00")
    assert main(["--log", log, *FACTS[:-1], str(facts)]) == REFUSED


@pytest.mark.parametrize("option", ["--latents", "--betas"])
def test_an_empty_file_is_no_fact_and_no_lack_of_one(log, tmp_path, capsys, option):
    empty = tmp_path / "empty.json"
    empty.write_text("\n")
    assert main(["--log", log, *FACTS, option, str(empty)]) == REFUSED
    assert "empty.json is empty" in capsys.readouterr().err


def test_every_pair_is_printed_and_the_help_says_which_std_is_meant(tmp_path, capsys):
    path = tmp_path / "log.txt"
    path.write_text("loss: 0.34")
    assert main(["--log", str(path)]) == UNJUDGED
    out = capsys.readouterr().out
    assert out.count("predicts v_prediction: std") == len(SCHEDULES)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "std about the mean image" in " ".join(capsys.readouterr().out.split())


def test_what_a_log_has_no_use_for_is_refused(log, capsys):
    for option in (["--images", "/nowhere"], ["--dataset", "mnist"]):
        with pytest.raises(SystemExit) as ended:
            main(["--log", log, *FACTS, *option])
        assert ended.value.code == REFUSED
        assert "go with a folder" in capsys.readouterr().err
    for option in (["--beta-end", "0"], ["--beta-start", "0"], ["--batch-size", "-3"]):
        assert main(["--log", log, *FACTS, *option]) == REFUSED
        assert "error: " in capsys.readouterr().err


def test_a_log_on_standard_input_is_not_cut(monkeypatch, capsys):
    monkeypatch.setattr(diagnose_log, "MAX_LOG_BYTES", 1000)
    monkeypatch.setattr(reading, "MAX_LOG_BYTES", 1000)
    text = "step,loss\n" + "\n".join(f"{step},{1 if step < 90 else 0.1}" for step in range(400))
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["--log", "-", *FACTS]) == REFUSED
    assert "more than" in capsys.readouterr().err


def test_floors_that_cannot_be_written_are_refused_by_the_name_that_was_given(log, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for place in ("gone/x.jsonl", "file/x.jsonl", "file", "table.csv"):
        assert main(["--log", log, *FACTS, "--write-floors", str(tmp_path / place)]) == REFUSED
        said = capsys.readouterr().err
        assert f"{tmp_path / place} cannot be written: " in said or "give a name that ends in .jsonl" in said
        assert "/.x.jsonl" not in said


def test_floors_are_written_as_lines_or_for_tensorboard(log, tmp_path, capsys):
    lines, folder = tmp_path / "floors.jsonl", tmp_path / "reference"
    for place in (lines, folder):
        assert main(["--log", log, *FACTS, "--write-floors", str(place)]) == ACCUSED
    first, last = map(json.loads, lines.read_text().splitlines())
    assert (first["step"], last["step"]) == (1, 1000)
    assert first["floor/white"] == last["floor/white"] == pytest.approx(0.2755, abs=1e-3)
    drawn = read_log(folder).series
    assert drawn["floor-white/loss"].values == pytest.approx((0.2755, 0.2755), abs=1e-3)
    assert set(drawn) == {"floor-white/loss", "floor-zero/loss"}
    assert main(["--log", log, "--write-floors", str(lines)]) == REFUSED
    assert "no floors to write" in capsys.readouterr().err
