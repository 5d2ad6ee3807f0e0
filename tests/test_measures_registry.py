"""The registry of measures: whole, readable, and all that an evaluation stores."""

import json

import pytest
import torch
from helpers import draw_shapes

from ldm_explorer.data import crop, dataset_spec
from ldm_explorer.evaluation import measures
from ldm_explorer.evaluation.cost import Cost
from ldm_explorer.evaluation.features import FeatureNet
from ldm_explorer.evaluation.measures import MEASURES, SETTINGS, SPREADS, Measure, derive, measures_table, on_their_own
from ldm_explorer.evaluation.reference import Reference, mean_and_spread
from ldm_explorer.evaluation.results_table import tables
from ldm_explorer.explore.size_answer import CONTINUITY, EXACT, HEADLINES
from ldm_explorer.explore.size_measures import LatentSize, SizeMeasures, csv_table
from ldm_explorer.figures.continuity import KL_MEASURES, PANELS
from ldm_explorer.figures.latent_size import ROWS
from ldm_explorer.latents import LatentCodec
from ldm_explorer.samplers import DEFAULT_NUM_STEPS, DEFAULT_SAMPLER
from ldm_explorer.shipped import shipped_checkpoints
from ldm_explorer.ui.sizes import table, words

SPEC = dataset_spec("fashion_mnist")
STORED = [path for path in sorted(shipped_checkpoints().glob("*/*/metrics.json"))]


@pytest.fixture(scope="module")
def reference(shapes) -> Reference:
    torch.manual_seed(0)
    network = FeatureNet(1, 10, widths=(8, 16)).eval()
    return Reference(SPEC, network, shapes, draw_shapes(100, seed=1), draw_shapes(120, seed=2), num_images=30)


def names_stored(evaluation: dict) -> set[str]:
    sections = [evaluation[name] for name in (*measures_sections(), "loss") if evaluation.get(name)]
    return {name for section in sections for name in section} | set((evaluation.get("loss") or {}).get("floors", {}))


def measures_sections() -> list[str]:
    return sorted({measure.section for measure in MEASURES.values()} - {"real", "derived", "loss"})


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.parent.name)
def test_every_stored_name_is_a_measure_or_says_how_it_was_measured(path):
    content = json.loads(path.read_text())
    evaluations = [stored for name, stored in content.items() if name.startswith("evaluation")]
    assert {name for stored in evaluations for name in names_stored(stored)} <= MEASURES.keys() | SETTINGS.keys()


def test_what_the_evaluation_gives_is_in_the_registry(reference, tiny_vae, shapes):
    codec, images = LatentCodec(tiny_vae), crop(shapes.images, SPEC)[:40]
    of_samples = reference.samples(images, shapes.labels[:40], torch.ones(40))
    given = (
        reference.reconstruction(codec).keys()
        | reference.latent_space(codec).keys()
        | reference.continuity(codec).keys()
        | reference.context(40).keys()
        | mean_and_spread([of_samples, of_samples]).keys()
        | Cost.__dataclass_fields__.keys()
    )
    assert given <= MEASURES.keys() | SETTINGS.keys()
    computed = {name for name, measure in MEASURES.items() if measure.of and measure.section != "derived"}
    assert computed <= given


@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda measure: measure.name)
def test_every_measure_says_what_it_is_and_names_what_stands_beside_it(measure):
    assert measure.title
    assert measure.definition.endswith(".")
    assert ". " not in measure.definition.replace("app. ", "").replace("et al. ", ""), "one sentence"
    assert measure.better in ("higher", "lower", "neither")
    assert measure.name not in measure.beside
    assert all(MEASURES[name].label for name in measure.beside)
    assert not measure.asks or measure.better == "lower", "where it is compared in words, less is better"


def test_names_and_titles_are_unique_and_units_agree_with_names():
    assert len({measure.title for measure in MEASURES.values()}) == len(MEASURES)
    endings = {"_percent": "%", "_db": "dB", "_mse": "MSE"}
    for name, measure in MEASURES.items():
        assert all(measure.unit == unit for ending, unit in endings.items() if name.endswith(ending)), name


def test_what_is_chosen_elsewhere_is_in_the_registry():
    chosen = {*CONTINUITY, *EXACT, *HEADLINES, *KL_MEASURES, *ROWS, *words.COLUMNS}
    assert chosen | {name for panel in PANELS.values() for name in panel.columns} <= MEASURES.keys()


def test_a_derived_measure_follows_from_stored_ones_and_is_left_out_without_them():
    stored = {"ifd_percent": 3.0, "rfd_percent": 1.0}
    assert derive(stored) == {"ifd_above_rfd_percent": 2.0}


def test_every_measure_that_the_app_shows_stands_in_its_table_or_in_a_panel():
    in_panels = {name for panel in PANELS.values() for name in panel.measures}
    shown = {m.name for m in on_their_own(("reconstruction", "latent_space", "continuity", "generation", "derived"))}
    in_table = table.size_table([])
    assert {name for name in shown - in_panels if MEASURES[name].heading not in in_table} == set()
    assert {name for name in in_panels if f">{MEASURES[name].heading}" in in_table} == set()
    assert in_panels <= shown


def test_one_entry_is_measured_and_shows_in_the_docs_table_and_in_csv(reference, tiny_vae, monkeypatch):
    added = Measure(
        name="brightness_error",
        section="reconstruction",
        title="brightness error",
        definition="How much brighter reconstructions are on average.",
        better="lower",
        of=lambda inputs: float((inputs.reconstructions - inputs.originals).mean().abs()),
    )
    monkeypatch.setitem(measures.MEASURES, added.name, added)
    assert reference.reconstruction(LatentCodec(tiny_vae))["brightness_error"] > 0
    assert "| brightness error | `brightness_error` | lower | How much brighter" in measures_table()
    (in_docs,) = tables({"a": {"reconstruction": {"values": 64, added.name: 0.25}}})
    assert in_docs.splitlines() == [
        "| checkpoint | values | brightness error |",
        "| --- | --- | --- |",
        "| a | 64 | 0.25 |",
    ]
    figures = SizeMeasures("a", LatentSize(8, 4, 784), True, True, None, DEFAULT_NUM_STEPS, DEFAULT_SAMPLER, {})
    assert "brightness_error" in csv_table([figures], list(MEASURES)).splitlines()[0]
    assert "brightness error ↓" in table.size_table([figures])
    assert "brightness error" in table.explanation()


def test_the_docs_table_has_a_row_for_every_measure_but_the_spreads():
    rows = measures_table().splitlines()[2:]
    assert len(rows) == len(MEASURES) - len(SPREADS)
    assert all(row.count("|") == rows[0].count("|") for row in rows)
