"""The latent-size question: stored figures, what is claimed of them, their plots and tables."""

import base64
import csv
import io
import json
import shutil
from dataclasses import replace

import pytest
import torch

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.data import crop, to_uint8
from ldm_explorer.evaluation.cost import measure_cost
from ldm_explorer.evaluation.measures import MEASURES
from ldm_explorer.explore.few_evaluations import read_few_evaluations
from ldm_explorer.explore.images import example_image
from ldm_explorer.explore.latent_views import NUM_FRAMES, interpolate, map_latent_use
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.reconstruction import LatentSize
from ldm_explorer.explore.size_answer import (
    NOT_KNOWN,
    NOTHING_TO_COMPARE,
    answer_in_numbers,
    answer_in_short,
    continuity_in_numbers,
    find_differences,
)
from ldm_explorer.explore.size_measures import (
    FAMILY,
    SizeMeasures,
    csv_table,
    default_names,
    family_names,
    kl_row,
    read_measures,
    read_training_spread,
    spread_around,
)
from ldm_explorer.explore.size_sentence import answer_in_a_sentence
from ldm_explorer.figures.continuity import KL_MEASURES, PANELS, kl_figure, panel_figure
from ldm_explorer.figures.few_evaluations import few_evaluations_figure
from ldm_explorer.figures.latent_size import answer_figure
from ldm_explorer.figures.style import SAMPLER_COLORS, SIDE_COLORS
from ldm_explorer.run_files import update_metrics
from ldm_explorer.samplers import ALL_SAMPLERS, DEFAULT_NUM_STEPS, DEFAULT_SAMPLER
from ldm_explorer.ui import few_evaluations
from ldm_explorer.ui.pictures import csv_link, kl_picture, strip
from ldm_explorer.ui.settings import OfCheckpoint
from ldm_explorer.ui.sizes.table import size_table

SPREAD = {"psnr_db": 0.3, "fd_percent": 0.1, "ifd_above_rfd_percent": 0.1, "turn_error": 0.1, "stretch_variation": 0.1}

MAX_HEIGHT = 440
"""In pixels: of a figure that stands whole at 1280x720 and 390x844, below a heading and a sentence."""


def made(side: int, channels: int, **figures: float) -> SizeMeasures:
    """A member of the family with made figures."""
    size = LatentSize(side, channels, 784)
    return SizeMeasures(f"size-{size.shape}", size, True, True, None, DEFAULT_NUM_STEPS, DEFAULT_SAMPLER, figures)


@pytest.fixture(scope="module")
def library(ldm_folder, vae_folder, tmp_path_factory) -> Library:
    """A family of one shape, its variants, seeds, and a checkpoint of no family; made figures."""
    root = tmp_path_factory.mktemp("library")
    family = root / FAMILY
    kept = ((ldm_folder, "size-8x8x4", {}), (vae_folder, "kl-1", {"kl_weight": 1.0}))
    kept += ((vae_folder, "kl-1e-6", {"kl_weight": 1e-6}), (vae_folder, "size-spare", {"kl_weight": 1e-4}))
    for folder, name, config in kept:
        shutil.copytree(folder, family / name)
        (family / name / "train_config.json").write_text(json.dumps({"dataset": "fashion_mnist"} | config))
        measured = {"reconstruction": {"psnr_db": 30.0, "pca_psnr_db": 26.9, "num_images": 10, "rfd_percent": 0.1}}
        update_metrics(family / name, "evaluation", measured)
    seeds = {"8x8x4": {"ssim": [0.9, 1.0, 1.1]}, "32x32x1": {"ssim": [4.0, 4.1, 4.0]}, "commands": ["a"]}
    (family / "seeds.json").write_text(json.dumps(seeds))
    shutil.copytree(ldm_folder, root / "fashion_mnist" / "tiny-ldm")
    return open_library(root)


def test_stored_figures_are_read_whatever_part_is_there(library):
    family, other = read_measures(library, ["size-8x8x4", "tiny-ldm", "size-8x8x4"])
    assert (family.name, family.of_its_shape, family.label) == ("size-8x8x4", True, "8x8x4")
    assert (other.name, other.of_its_shape, other.label) == ("tiny-ldm", False, "tiny-ldm")
    assert (family.get("psnr_db"), other.get("psnr_db"), family.get("fd_percent")) == (30.0, None, None)
    cost = measure_cost(library.get("tiny-ldm"))
    assert other.get("gflops_per_image") == cost.per_sample(DEFAULT_NUM_STEPS)
    with pytest.raises(ValueError, match="at least one"):
        read_measures(library, [])


def test_a_figure_that_is_no_number_is_not_there(library):
    checkpoint = library.get("size-8x8x4")
    broken = {"reconstruction": {"psnr_db": float("nan"), "ssim": None}, "cost": {}}
    broken["cost"] = {"encode_gflops": 1.0, "decode_gflops": 2.0, "evaluation_gflops": 3.0}
    broken["generation"] = {"evaluations": 10}
    changed = replace(checkpoint, metrics={"evaluation": broken})
    (figures,) = read_measures(Library({"size-8x8x4": changed}, (), {}), ["size-8x8x4"])
    assert (figures.get("psnr_db"), figures.get("ssim")) == (None, None)
    assert figures.get("gflops_per_image") == 32.0


def test_the_spread_of_seeds_is_the_larger_relative_one(library, tmp_path):
    folder = library.get("kl-1").folder.parent
    assert read_training_spread(folder) == {"ssim": pytest.approx(0.2)}
    assert read_training_spread(tmp_path) == {}
    (tmp_path / "seeds.json").write_text("no JSON")
    assert read_training_spread(tmp_path) == {}


def test_decibels_spread_by_decibels_and_half_way_points_by_what_they_lose_beyond_reconstructions(tmp_path):
    seeds = {"psnr_db": [29.0, 30.0, 31.0], "ifd_percent": [0.5, 0.6, 0.7], "rfd_percent": [0.1, 0.3, 0.2]}
    (tmp_path / "seeds.json").write_text(json.dumps({"8x8x4": seeds}))
    spread = read_training_spread(tmp_path)
    assert spread["psnr_db"] == 2
    assert spread["ifd_above_rfd_percent"] == pytest.approx((0.5 - 0.3) / 0.4)
    assert [spread_around(name, 10.0, 0.5) for name in ("psnr_db", "fd_percent")] == [0.5, 5.0]


def test_a_measure_of_fewer_seeds_costs_the_derived_ones_of_the_others_nothing(tmp_path):
    of_three = {"ifd_percent": [3.0, 4.0, 5.0], "rfd_percent": [1.0, 1.0, 1.0]}
    seeds = of_three | {"fd_percent": [1.0, 2.0]}
    (tmp_path / "seeds.json").write_text(json.dumps({"8x8x4": seeds}))
    assert read_training_spread(tmp_path)["ifd_above_rfd_percent"] > 0


@pytest.mark.parametrize(("of_the_pair", "of_the_other_size", "share"), [(1, 1, 0.18), (8, 1, 0.31), (1, 8, 0.01)])
def test_of_latents_that_are_equally_good_at_most_a_third_are_told_apart(
    of_the_pair, of_the_other_size, share, tmp_path
):
    """In each figure, as the room says, by how much the seeds of the pair vary and those of the sizes measured."""
    deviations = torch.tensor([of_the_pair] * 5 + [of_the_other_size] * 3) / 1000
    draws = 1 + deviations * torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    told_apart = 0
    for first, second, *seeds in draws.tolist():
        (tmp_path / "seeds.json").write_text(json.dumps({"a": {"ssim": seeds[:3]}, "b": {"ssim": seeds[3:]}}))
        figures = [made(8, 4, ssim=first), made(32, 1, ssim=second)]
        (difference,) = find_differences(figures, ("8x8x4", "32x32x1"), ["ssim"], read_training_spread(tmp_path))
        told_apart += difference.verdict != "same"
    assert told_apart / 1000 == pytest.approx(share, abs=0.03)


def test_samples_of_other_samplers_or_numbers_of_evaluations_are_not_compared():
    def measures(second: SizeMeasures) -> list[str]:
        measured = {"psnr_db": 40.0, "fd_percent": 0.6, "gflops_per_image": 10.0}
        figures = [made(8, 4, **measured), replace(second, measures=measured)]
        return [item.measure for item in find_differences(figures, ("8x8x4", "32x32x1"), list(measured), SPREAD)]

    assert measures(made(32, 1)) == ["psnr_db", "fd_percent", "gflops_per_image"]
    assert measures(replace(made(32, 1), evaluations=16)) == ["psnr_db"]
    assert measures(replace(made(32, 1), sampler="ddim")) == ["psnr_db", "gflops_per_image"]


def test_of_two_families_the_chosen_one_is_compared_else_the_first(library, tmp_path):
    ours = library.get("size-8x8x4")
    theirs = replace(ours, name="size-8x8x4 (2)", folder=tmp_path / FAMILY / "size-8x8x4")
    both = replace(library, checkpoints=library.checkpoints | {theirs.name: theirs})
    assert family_names(both, ours.name) == family_names(both, "tiny-ldm") == family_names(library, ours.name)
    assert family_names(both, theirs.name) == [theirs.name]


def test_the_family_comes_first_where_there_is_one(library):
    assert default_names(library, "tiny-ldm") == ["tiny-ldm", "kl-1", "kl-1e-6", "size-8x8x4", "size-spare"]
    assert [item.name for item in kl_row(read_measures(library, library.names()))] == ["kl-1e-6", "size-spare", "kl-1"]


def test_a_difference_beyond_the_spread_of_seeds_is_claimed_with_its_figures():
    figures = [made(8, 4, psnr_db=30.0, fd_percent=0.3, gflops_per_image=6.0)]
    figures += [made(32, 1, psnr_db=40.0, fd_percent=0.6, gflops_per_image=10.0)]
    text = answer_in_numbers(figures, SPREAD)
    raw = "32x32x1 (1,024 values, no compression: pixel diffusion in disguise)"
    assert f"8x8x4 (256 values) → {raw}" in text
    assert "PSNR 30.0 → 40.0 dB, **better** (spread of seeds 0.3 dB)" in text
    assert "FD 0.300 → 0.600 %, **worse** (spread of seeds 10%)" in text
    assert "cost 6.00 → 10.0 GFLOPs per image." in text
    assert "4x4x8" not in text
    says = "reconstructs **better**, generates **worse**, and an image costs 1.7 times as much."
    assert answer_in_short(figures, SPREAD) == f"- **Side 8 or 32**: {raw} in the place of 8x8x4 (256 values) {says}"


def test_a_difference_within_the_spread_of_seeds_is_not_claimed():
    figures = [made(4, 8, psnr_db=30.0, fd_percent=0.30), made(4, 32, psnr_db=30.2, fd_percent=0.32)]
    text = answer_in_numbers(figures, SPREAD)
    assert "PSNR 30.0 → 30.2 dB, no difference beyond the spread of seeds (0.3 dB)" in text
    assert "better" not in text
    assert "worse" not in text
    says = "- **8 or 32 channels**: 4x4x32 (512 values) in the place of 4x4x8 (128 values) "
    says += "reconstructs and generates no differently beyond luck"
    assert answer_in_short(figures, SPREAD) == f"{says}."
    figures = [replace(item, measures=item.measures | {"gflops_per_image": 2.0}) for item in figures]
    assert answer_in_short(figures, SPREAD) == f"{says} and an image costs as much."
    figures = [replace(item, measures=item.measures | {"turn_error": 1.0}) for item in figures]
    assert answer_in_short(figures, SPREAD) == f"{says}, keeps its continuity within luck, and an image costs as much."


def test_of_several_shapes_those_within_the_spread_of_the_best_are_named():
    figures = [made(4, 16, psnr_db=28.0), made(8, 4, psnr_db=33.0), made(16, 1, psnr_db=32.9)]
    assert "PSNR 28.0 → 33.0 → 32.9 dB, **best with 8x8x4 and 16x16x1**" in answer_in_numbers(figures, SPREAD)
    worst_last = [made(4, 16, psnr_db=33.0), made(8, 4, psnr_db=32.9), made(16, 1, psnr_db=28.0)]
    (difference,) = find_differences(worst_last, ("4x4x16", "8x8x4", "16x16x1"), ["psnr_db"], SPREAD)
    assert difference.best == ("4x4x16", "8x8x4")


def test_a_figure_that_some_shapes_lack_says_of_which_it_is():
    figures = [
        made(8, 1, psnr_db=22.0),
        made(8, 2, psnr_db=27.0, fd_percent=0.9),
        made(8, 8, psnr_db=38.0, fd_percent=0.2),
    ]
    text = answer_in_numbers(figures, SPREAD)
    assert "PSNR 22.0 → 27.0 → 38.0 dB, **best with 8x8x8**" in text
    assert "FD 0.900 → 0.200 % (8x8x2 → 8x8x8), **better**" in text


def test_measures_of_continuity_are_sorted_by_what_happens_to_them():
    figures = [made(8, 4, ifd_above_rfd_percent=0.1, turn_error=0.5, stretch_variation=0.3, length_over_chord=1.5)]
    figures += [made(32, 1, ifd_above_rfd_percent=0.8, turn_error=0.2, stretch_variation=0.31, length_over_chord=2.5)]
    text = continuity_in_numbers(figures, SPREAD)
    above = "iFD of nearest pairs above rFD"
    assert f"**worse**: {above} (0.1 → 0.8, spread 10%); **better**: turn error (0.5 → 0.2, " in text
    assert "no difference beyond the spread of seeds: stretch variation (0.3 → 0.31, spread 10%)" in text
    assert "path over chord" not in text, "its seeds were not measured"
    short = "**gains continuity** in quarter turns and **loses continuity** in midpoints of nearest pairs"
    assert f"{short} (no denoiser was trained on 8x8x4 and 32x32x1)." in answer_in_short(figures, SPREAD)
    assert continuity_in_numbers(figures, {}) == ""


def test_without_seeds_nothing_is_claimed():
    figures = [made(8, 4, psnr_db=30.0), made(32, 1, psnr_db=40.0)]
    assert (answer_in_short(figures, {}), answer_in_numbers(figures, {})) == (NOT_KNOWN, "")
    assert answer_in_a_sentence(figures, {}) == NOT_KNOWN
    assert answer_in_a_sentence([], SPREAD) == NOTHING_TO_COMPARE


def test_the_sentence_takes_the_cheapest_of_those_that_generate_as_well_and_says_what_the_largest_gives():
    figures = [made(32, 1, psnr_db=50.0, fd_percent=0.61, gflops_per_image=3.0)]
    figures += [made(16, 1, psnr_db=32.0, fd_percent=0.60, gflops_per_image=2.0)]
    figures += [made(8, 4, psnr_db=32.0, fd_percent=0.62, gflops_per_image=1.5)]
    figures += [made(4, 8, psnr_db=28.0, fd_percent=0.9, gflops_per_image=0.8)]
    assert answer_in_a_sentence(figures, SPREAD) == (
        "**8x8x4** (side 8, 4 channels, 256 values) is enough: no latent here generates better beyond luck, and of "
        "those as good it costs the least; **32x32x1** (side 32, 1 channel, 1,024 values, no compression) reconstructs "
        "better, generates no differently beyond luck and an image costs 2.0 times as much."
    )


def test_the_sentence_of_the_best_one_alone_sets_it_beside_the_smallest_where_it_is_the_largest():
    figures = [made(4, 8, fd_percent=0.9, gflops_per_image=1.0), made(8, 4, fd_percent=0.5, gflops_per_image=2.0)]
    said = answer_in_a_sentence(figures, SPREAD)
    assert said.startswith(
        "**8x8x4** (side 8, 4 channels, 256 values) is enough: no latent here generates better beyond"
    )
    assert said.endswith(
        "luck; **4x4x8** (side 4, 8 channels, 128 values) generates worse and an image costs 0.5 times as much."
    )


def test_the_sentence_speaks_of_reconstructions_where_no_two_denoisers_were_measured():
    figures = [made(8, 4, psnr_db=32.0, fd_percent=0.6), made(8, 8, psnr_db=32.1), made(8, 1, psnr_db=26.0)]
    assert answer_in_a_sentence(figures, SPREAD) == (
        "**8x8x4** (side 8, 4 channels, 256 values) is enough: no latent here reconstructs better beyond luck, none as "
        "good is smaller; **8x8x8** (side 8, 8 channels, 512 values) reconstructs no differently beyond luck."
    )
    assert (answer_in_short([], SPREAD), answer_in_numbers([], SPREAD)) == (NOTHING_TO_COMPARE, "")


def test_the_figure_of_the_answer_shows_every_point_in_the_colour_of_its_side():
    figures = [
        made(8, 4, psnr_db=30.0, fd_percent=0.3, fd_percent_spread=0.04, pca_psnr_db=26.9, fd_floor_percent=0.03)
    ]
    figures += [made(32, 1, psnr_db=40.0, fd_floor_percent=0.03), made(8, 1, psnr_db=22.0, pca_psnr_db=20.8)]
    figure = answer_figure(figures, {"psnr_db": 0.5})
    assert figure.layout.height <= MAX_HEIGHT
    assert [trace.ids for trace in figure.data if trace.yaxis == "y" and trace.name == "side 8"] == [
        ("size-8x8x4", "size-8x8x1")
    ], "what a click on a point chooses"
    reconstruction = {trace.name: trace for trace in figure.data if trace.yaxis == "y" and "side" in trace.name}
    assert reconstruction["side 8"].x == (256, 64)
    assert reconstruction["side 8"].y == (30.0, 22.0)
    assert reconstruction["side 8"].text == ("8x8x4", "8x8x1")
    assert reconstruction["side 8"].error_y.array == (0.25, 0.25)
    assert {group: trace.marker.color for group, trace in reconstruction.items()} == {
        "side 8": SIDE_COLORS[8],
        "side 32": SIDE_COLORS[32],
    }
    assert reconstruction["side 32"].marker.symbol == ("triangle-up-open",)
    (generation,) = [trace for trace in figure.data if trace.yaxis == "y2" and "side" in trace.name]
    assert generation.error_y.array == (0.02,)
    (pca,) = [trace for trace in figure.data if trace.text and trace.text[-1] == "PCA"]
    assert (pca.x, pca.y) == ((64, 256), (20.8, 26.9))
    (floor,) = [trace for trace in figure.data if trace.text == ("other real images",)]
    assert (floor.x, floor.y) == ((64, 1024), (0.03, 0.03))


def test_every_side_and_every_sampler_has_a_colour_of_its_own():
    assert len(set(SIDE_COLORS.values())) == len(SIDE_COLORS)
    assert set(ALL_SAMPLERS) == set(SAMPLER_COLORS)
    assert len(set(SAMPLER_COLORS.values())) == len(SAMPLER_COLORS)


@pytest.mark.parametrize("name", PANELS)
def test_every_small_figure_shows_its_measures_and_bears_gaps(name):
    panel = PANELS[name]
    assert set(panel.columns) <= set(MEASURES)
    figures = [made(8, 4, **{measure: 0.5 for measure in panel.columns}), made(16, 1)]
    figure = panel_figure(panel, figures, {})
    drawn = [trace for trace in figure.data if trace.x != (None,)]
    assert [trace.y for trace in drawn] == [(0.5, None)] * len(panel.columns)
    assert len([trace for trace in figure.data if trace.showlegend is not False]) == len(panel.columns)
    assert figure.data[0].x == ("8x8x4", "16x16x1")


def test_the_figure_over_kl_weights_has_a_row_per_measure():
    row = [replace(made(8, 4, psnr_db=psnr), kl_weight=weight) for weight, psnr in ((1e-6, 33.0), (1.0, 20.0))]
    figure = kl_figure(row, {})
    assert len(figure.data) == len(KL_MEASURES)
    assert (figure.data[0].x, figure.data[0].y) == (("1e-06", "1"), (33.0, 20.0))


def test_a_table_has_a_line_per_checkpoint_and_gaps_where_nothing_was_measured():
    text = csv_table([made(8, 4, psnr_db=30.5), made(16, 1)], ["psnr_db", "ssim"])
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["checkpoint"], first["values"], first["psnr_db"], first["ssim"]) == ("size-8x8x4", "256", "30.5", "")
    assert (first["sampler"], first["evaluations"]) == (DEFAULT_SAMPLER, str(DEFAULT_NUM_STEPS))
    assert (second["side"], second["channels"], second["psnr_db"]) == ("16", "1", "")
    link = csv_link(text, "na<me")
    assert base64.b64decode(link.split("base64,")[1].split('"')[0]).decode() == text
    assert 'download="na_me.csv"' in link
    assert 'aria-label="na&lt;me as CSV"' in link


def test_the_table_on_the_page_puts_beside_a_figure_what_makes_it_readable():
    table = size_table([made(8, 4, psnr_db=30.0, pca_psnr_db=26.9), made(32, 1, psnr_db=40.0)])
    assert "30<small>PCA 26.9</small>" in table
    assert "40<small>PCA lossless</small>" in table
    assert "<td>none</td>" in table
    assert "<td>–</td>" in table


def test_few_evaluations_are_drawn_per_sampler_where_they_were_measured(ldm_folder, tmp_path):
    assert read_few_evaluations(read_checkpoint(ldm_folder)) is None
    folder = tmp_path / "fashion_mnist" / "run"
    shutil.copytree(ldm_folder, folder)
    measured = {
        "num_images": 100,
        "seed": 0,
        "evaluations": [4, 8],
        "fd_floor_percent": 0.03,
        "fd_percent": {"dpm++": [2.0, 1.0], "ddim": [3.0, 2.0]},
    }
    update_metrics(folder, "few_evaluations", measured)
    update_metrics(folder, "evaluation", {"reconstruction": {"rfd_percent": 0.1}})
    result = read_few_evaluations(read_checkpoint(folder))
    traces = {trace.name: trace for trace in few_evaluations_figure(result).data}
    assert (traces["ddim"].x, traces["ddim"].y) == ((4, 8), (3.0, 2.0))
    assert few_evaluations_figure(result).layout.xaxis.tickvals == (4, 8)
    crowded = replace(result, evaluations=(4, 6, 8, 10, 12, 16, 25, 50), fd_percent={"ddim": (1.0,) * 8})
    assert few_evaluations_figure(crowded).layout.xaxis.tickvals == (4, 6, 8, 12, 16, 25, 50), (
        "10 has no room on a phone"
    )
    assert traces["floor: other real images"].y == (0.03, 0.03)
    assert result.csv().splitlines() == ["evaluations,fd_percent of dpm++,fd_percent of ddim", "4,2.0,3.0", "8,1.0,2.0"]
    asked = OfCheckpoint(checkpoint="run")
    ((_, figure, link),) = few_evaluations.answer(open_library(tmp_path), asked, None)
    assert (figure["visible"], len(figure["value"].data)) == (True, 4)
    assert "run-few-evaluations.csv" in link


def test_students_stand_on_the_curve_of_their_first_teacher(ldm_folder):
    def made(name: str, teacher: str | None, evaluations: list[int], distances: list[float]) -> Checkpoint:
        measured = {"num_images": 100, "evaluations": evaluations, "fd_percent": {"ddim": distances}}
        config = {"teacher": f"runs/{teacher}"} if teacher else {}
        read = read_checkpoint(ldm_folder)
        return replace(read, name=name, config=config, metrics={"few_evaluations": measured})

    library = {
        "first": made("first", None, [4, 8], [2.0, 1.0]),
        "of-4": made("of-4", "first", [4], [1.1]),
        "of-1": made("of-1", "of-4", [1], [1.5]),
        "of-another": made("of-another", "elsewhere", [2], [9.0]),
        "unmeasured": replace(made("unmeasured", "first", [2], [9.0]), metrics={}),
    }
    for asked in ("first", "of-4", "of-1"):
        result = read_few_evaluations(library[asked], library)
        assert result.name == "first"
        assert result.students == {"of-1": (1, 1.5), "of-4": (4, 1.1)}
    assert result.csv().splitlines() == [
        "evaluations,fd_percent of ddim,fd_percent of of-1,fd_percent of of-4",
        "1,,1.5,",
        "4,2.0,,1.1",
        "8,1.0,,",
    ]
    traces = {trace.name: trace for trace in few_evaluations_figure(result).data}
    assert (traces["students"].x, traces["students"].y) == ((1, 4), (1.5, 1.1))
    alone = read_few_evaluations(library["of-another"], library)
    assert (alone.name, alone.students, alone.fd_percent) == ("of-another", {}, {"ddim": (9.0,)})
    of_itself = replace(library["first"], config={"teacher": "first"})
    assert read_few_evaluations(of_itself, {"first": of_itself}).students == {}


def test_a_strip_begins_and_ends_with_the_reconstructions(ldm_folder):
    checkpoint = read_checkpoint(ldm_folder)
    first, second = (example_image(checkpoint, name, 0).pixels for name in ("Bag", "Dress"))
    result = interpolate(checkpoint, first, second)
    codec = checkpoint.pipeline.codec
    ends = crop(to_uint8(codec.decode(codec.encode(torch.cat([first, second])))), checkpoint.spec)
    for way in (result.straight, result.spherical):
        assert len(way.images) == NUM_FRAMES
        difference = way.images[[0, -1]].int() - ends.int()
        assert difference.abs().max() <= 1, "but for rounding: kernels differ by batch size"
    assert result.straight.halfway_length < result.spherical.halfway_length
    same = interpolate(checkpoint, first, first)
    assert same.straight.halfway_length == pytest.approx(1)


def test_the_map_of_kl_is_that_of_the_raw_posterior(ldm_folder):
    checkpoint = read_checkpoint(ldm_folder)
    image = example_image(checkpoint, "Bag", 0).pixels
    maps = map_latent_use(checkpoint, image)
    raw = checkpoint.vae.encode(image).latent_dist
    assert maps.of_image.shape == maps.of_examples.shape == (4, 8, 8)
    assert maps.of_image.sum() == pytest.approx(float(raw.kl().sum()), rel=1e-4)
    assert maps.num_examples == 100


def test_pictures_of_kl_run_from_black_over_blue_to_yellow():
    picture = kl_picture(torch.tensor([[[0.0, 4.0, 8.0, 99.0]]]))
    assert picture[:, 0].T.tolist() == [[0, 0, 0], [0, 114, 178], [240, 228, 66], [240, 228, 66]]
    images = torch.tensor([10, 20], dtype=torch.uint8).view(2, 1, 1, 1)
    assert strip(images).flatten().tolist() == [10, 0, 20]


def test_a_larger_spread_of_a_poor_figure_does_not_hide_a_difference_between_good_ones():
    figures = [made(8, 1, fd_percent=3.0), made(8, 4, fd_percent=0.3), made(8, 8, fd_percent=0.2)]
    (difference,) = find_differences(figures, ("8x8x1", "8x8x4", "8x8x8"), ["fd_percent"], {"fd_percent": 0.1})
    assert difference.best == ("8x8x8",)


@pytest.mark.parametrize("seeds", [{"8x8x4": {"psnr_db": 30.0}}, {"8x8x4": {"psnr_db": [30.0, None]}}, {"8x8x4": [1]}])
def test_a_file_of_seeds_that_holds_no_numbers_gives_no_spread(tmp_path, seeds):
    (tmp_path / "seeds.json").write_text(json.dumps(seeds))
    assert read_training_spread(tmp_path) == {}
    (tmp_path / "seeds.json").write_text('{"8x8x4": {"fd_percent": [0.2, NaN, 0.3]}}')
    assert read_training_spread(tmp_path) == {}


@pytest.mark.parametrize("evaluation", [None, [], {"reconstruction": None, "cost": [1]}])
def test_stored_figures_of_a_strange_kind_are_as_good_as_none(ldm_folder, evaluation):
    metrics = {"evaluation": evaluation, "few_evaluations": {"fd_percent": [1]}}
    strange = replace(read_checkpoint(ldm_folder), metrics=metrics)
    library = Library({"strange": strange}, (), {})
    assert set(read_measures(library, ["strange"])[0].measures) == {"gflops_per_image"}
    assert read_few_evaluations(strange) is None


def test_of_several_checkpoints_of_one_shape_the_family_is_labelled():
    other = replace(made(8, 4, psnr_db=33.0), name="flagship", in_family=False, of_its_shape=False)
    figure = answer_figure([made(8, 4, psnr_db=32.0), other, made(16, 1, psnr_db=32.5)], {})
    labels = {trace.customdata[0]: trace.text for trace in figure.data if trace.customdata}
    assert labels == {"size-8x8x4": ("8x8x4",), "flagship": ("",), "size-16x16x1": ("16x16x1",)}
    assert answer_figure([other], {}).data[0].text == ("8x8x4",)
