"""Tables of figures, whatever part of them there is."""

from ldm_explorer.evaluation.results_table import tables

RECONSTRUCTION = {"values": 64, "psnr_db": 22.345, "pca_psnr_db": None, "ssim": 0.9, "rfd_percent": 1.0}


def test_rows_and_columns_without_figures_are_left_out():
    measured = {"reconstruction": RECONSTRUCTION, "generation": {"fd_percent": None}}
    (table,) = tables({"a": measured, "b": {}, "c": {"reconstruction": RECONSTRUCTION | {"ssim": None}}})
    assert table.splitlines() == [
        "| checkpoint | values | PSNR dB | PCA dB | SSIM | rFD % |",
        "| --- | --- | --- | --- | --- | --- |",
        "| a | 64 | 22.3 | lossless | 0.9 | 1 |",
        "| c | 64 | 22.3 | lossless | - | 1 |",
    ]


def test_few_evaluations_have_a_column_per_number():
    curves = {"dpm++": [0.5, None], "ddim": [2.0, 1.25]}
    (table,) = tables({"a": {"evaluations": [4, 8], "fd_percent": curves}})
    assert table.splitlines()[2] == "| a | dpm++ 0.5 ddim 2 | dpm++ - ddim 1.25 |"


def test_nothing_measured_gives_no_table():
    assert tables({}) == tables({"a": {}}) == []


def test_students_have_a_table_of_their_own_and_leave_the_curves_as_they_are():
    curve = {"evaluations": [4, 8], "fd_percent": {"ddim": [0.5, 0.25], "unipc": [0.2, 0.1]}}
    point = {"evaluations": [4], "fd_percent": {"ddim": [0.125]}}
    curves, points = tables({"a-student": point, "teacher": curve})
    assert [line.split(" | ")[0] for line in curves.splitlines()[2:]] == ["| teacher"]
    assert "ddim 0.25 unipc 0.1" in curves
    assert points.splitlines()[2:] == ["| a-student | 0.125 | ddim | 4 |"]
