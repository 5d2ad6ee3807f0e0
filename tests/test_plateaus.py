"""docs/plateaus.md: every quoted loss gives the status and the answer that stand there."""

import io
import shlex

import pytest
from commands import REPO

from ldm_explorer.diagnose import main

TABLE = [
    [cell.strip() for cell in line.strip("|\n").split(" | ")]
    for line in (REPO / "docs" / "plateaus.md").read_text().replace(" | |", " |  |").splitlines()
    if line.startswith("| ") and "`" in line
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[1]} {row[3]}")
def test_the_answer_is_as_the_table_says(row, monkeypatch, capsys):
    _, pasted, options, status, answer = row
    monkeypatch.setattr("sys.stdin", io.StringIO(pasted.strip("`")))
    assert main(["--log", "-", *shlex.split(options.strip("`"))]) == int(status)
    said = " ".join(capsys.readouterr().out.split())
    short = answer.partition(": it knows more")[0]
    assert short in said
    assert (": it knows more" in answer) == ("knows more than the scale" in said)


def test_there_are_ten_threads():
    assert len({row[0].partition("(")[2].partition(")")[0] for row in TABLE} - {""}) >= 10
