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
