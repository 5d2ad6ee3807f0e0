"""The room "Latent size": a sentence, a figure, a picture per size, and what is asked when it is opened."""

import csv
import io
import json
import shutil
from dataclasses import replace

import pytest
from helpers import build_seeded

from ldm_explorer.checkpoints import read_checkpoint, save_vae
from ldm_explorer.explore.images import example_images
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.size_answer import NOT_KNOWN
from ldm_explorer.explore.size_measures import FAMILY
from ldm_explorer.figures.continuity import PANELS
from ldm_explorer.latents import measure_statistics
from ldm_explorer.models import VAEConfig
from ldm_explorer.run_files import update_metrics
from ldm_explorer.samplers import DEFAULT_NUM_STEPS
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.parts import is_folded, parameters_of, question_id
from ldm_explorer.ui.rooms import ROOMS, latent_size
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import Limits
from ldm_explorer.ui.sizes import between, chosen, continuity, kl, maps, reconstructed, table, words
from ldm_explorer.ui.sizes.compared import second_image

IMAGE = {"checkpoint": "tiny-ldm", "class_name": "Ankle boot"}


def answered(part, library: Library, beside: dict | None = None, **values) -> list[tuple]:
    known = {name: value for name, value in (IMAGE | values).items() if name in part.SETTINGS.model_fields}
    other = part.SETTINGS(**known | beside) if beside else None
    return list(part.answer(library, part.SETTINGS(**known), other))


@pytest.fixture(scope="module")
def library(ldm_folder, vae_folder, shapes, tmp_path_factory) -> Library:
    """A family of two shapes and a variant, seeds, and a checkpoint of no family; made figures."""
    root = tmp_path_factory.mktemp("library")
    family = root / FAMILY
    fine = build_seeded(VAEConfig(latent_size=16, latent_channels=1, widths=(16,)))
    measure_statistics(fine, shapes.images)
    save_vae(family / "size-16x16x1", fine)
    shutil.copytree(ldm_folder, family / "size-8x8x4")
    for name, weight in (("kl-1", 1.0), ("kl-1e-6", 1e-6)):
        shutil.copytree(vae_folder, family / name)
        (family / name / "train_config.json").write_text(json.dumps({"dataset": "fashion_mnist", "kl_weight": weight}))
    for name, psnr in (("size-16x16x1", 33.0), ("size-8x8x4", 30.0), ("kl-1", 20.0), ("kl-1e-6", 31.0)):
        config = family / name / "train_config.json"
        config.write_text(
            json.dumps({"dataset": "fashion_mnist"} | (json.loads(config.read_text()) if config.exists() else {}))
        )
        update_metrics(family / name, "evaluation", {"reconstruction": {"psnr_db": psnr, "pca_psnr_db": 26.9}})
    (family / "seeds.json").write_text(json.dumps({"8x8x4": {"psnr_db": [30.0, 30.2]}}))
    shutil.copytree(ldm_folder, root / "fashion_mnist" / "tiny-ldm")
    return open_library(root)


def test_the_room_is_a_sentence_and_a_figure_of_one_of_each_size(library):
    ((sentence, figure),) = answered(latent_size, library)
    assert sentence.startswith("**16x16x1** (side 16, 1 channel, 256 values) is enough: no latent here reconstructs")
    assert [trace.ids for trace in figure.data if trace.ids and trace.yaxis == "y"] == [
        ("size-8x8x4",),
        ("size-16x16x1",),
    ]
    ((_, figure),) = answered(latent_size, library, sizes=("tiny-ldm", "size-8x8x4"))
    assert figure.data[0].y == (30.0,)


def test_without_a_family_the_room_says_what_is_not_known(mixed_library):
    ((sentence, _),) = answered(latent_size, mixed_library)
    assert sentence == NOT_KNOWN


def test_an_opened_model_stands_beside_the_family_and_what_it_lacks_is_said(library, ldm_folder):
    mine = read_checkpoint(ldm_folder)
    spec = replace(mine.spec, class_names=tuple("0123456789"))
    mine = replace(mine, dataset="who knows", model=replace(mine.model, is_ours=False), told_spec=spec)
    mine = replace(mine, told_examples=example_images(read_checkpoint(ldm_folder)))
    library.opened.add("/models/mine", mine, "mine", library.checkpoints)
    asked = {"checkpoint": "/models/mine", "class_name": "9"}
    ((sentence, figure),) = answered(latent_size, library, **asked)
    assert sentence.startswith("**16x16x1**")
    assert "`mine` stores no measures" in sentence
    assert {name for trace in figure.data for name in trace.ids or ()} == {"size-8x8x4", "size-16x16x1", "mine"}
    ((pictures, _),) = answered(reconstructed, library, **asked)
    assert [picture["name"] for picture in pictures] == ["", "size-8x8x4", "mine", "size-16x16x1"]
    for size in ("size-16x16x1", "mine"):
        (*_, (shown,)) = answered(chosen, library, **asked, size=size)
        assert shown.count("<img") > 3
    for part in (words, continuity, kl, maps, between, table):
        assert answered(part, library, **asked)
    assert "mine" not in library.beside("tiny-ldm"), "what is opened is in no list"


def test_a_figure_of_one_point_says_what_is_not_measured_and_has_few_ticks(mixed_library):
    ((_, figure),) = answered(latent_size, mixed_library, checkpoint="tiny-color")
    titles = [note.text for note in figure.layout.annotations]
    assert [title.endswith(": not measured") for title in titles[:3]] == [True, True, False]
    low, high = figure.layout.yaxis3.range
    assert high - low < 0.5, "decades"


def test_every_size_has_a_picture_that_names_it_and_says_how_many_values_it_has(library):
    ((pictures, notes),) = answered(reconstructed, library)
    assert [picture["name"] for picture in pictures] == ["", "size-8x8x4", "size-16x16x1"]
    assert [picture["title"] for picture in pictures] == ["Image", "8x8x4", "16x16x1"]
    assert all(picture["words"][0] == "256 values" for picture in pictures[1:])
    assert all(picture["src"].startswith("data:image/png") for picture in pictures)
    assert notes == ""


def test_checkpoints_over_other_images_are_not_compared(mixed_library):
    ((pictures, notes),) = answered(reconstructed, mixed_library, sizes=("tiny-ldm", "tiny-color"))
    assert [picture["name"] for picture in pictures] == ["", "tiny-ldm"]
    assert notes == "tiny-color was trained on other images."
    ((pictures, _),) = answered(reconstructed, mixed_library, sizes=("tiny-color",))
    assert pictures[1]["name"] == "tiny-ldm"
    ((shown, _),) = answered(table, mixed_library, sizes=("tiny-color",))
    assert "tiny-ldm" in shown
    assert "tiny-color" not in shown
    with pytest.raises(ValueError, match="trained on other images than tiny-ldm"):
        answered(chosen, mixed_library, size="tiny-color")


def test_a_checkpoint_over_other_images_is_shown_in_colour(mixed_library):
    color = {"checkpoint": "tiny-color", "class_name": "red"}
    (*_, (shown,)) = answered(chosen, mixed_library, **color, size="tiny-color")
    assert shown.count("<img") == 4 + 2
    (*_, (strips,)) = answered(between, mixed_library, **color)
    assert strips.count("<img") == 2
    assert "From red, " in strips
    assert " to green, " in strips


def test_nothing_is_shown_below_before_a_size_is_chosen(library):
    assert answered(chosen, library) == [("",)]


def test_the_chosen_size_reconstructs_generates_and_interpolates(library):
    (waiting,), (shown,) = answered(chosen, library, size="size-8x8x4")
    assert "<img" not in waiting
    assert shown.count("<img") == 4 + 2
    assert "size-8x8x4: side 8, 4 channels, 256 values" in shown
    assert f"{DEFAULT_NUM_STEPS} evaluations" in shown
    assert "From Ankle boot" in shown
    (*_, (both,)) = answered(chosen, library, size="size-8x8x4", beside={"size": "size-16x16x1"})
    assert both.count("<img") == 6 + 5, "B is an autoencoder alone"
    assert "side 16, 1 channel, 256 values" in both
    with pytest.raises(ValueError, match="choose one of"):
        answered(chosen, library, size="nothing")


def test_the_answer_in_numbers_explains_its_terms_and_has_a_table(library):
    ((short, in_figures, link),) = answered(words, library)
    assert short.startswith("- **More side at equal values**: 16x16x1 (256 values) in the place of 8x8x4 (256 values)")
    assert "PSNR 30.0 → 33.0 dB, **better**" in in_figures
    assert "latent-size.csv" in link
    assert all(term in words.TERMS for term in ("**PSNR**", "**FD**", "**cost**"))


def test_every_panel_stands_in_one_of_two_parts_and_has_its_table(library):
    assert set(continuity.SHOWN) | set(kl.OF_SIZES) == set(PANELS)
    assert not set(continuity.SHOWN) & set(kl.OF_SIZES)
    assert {"kl", "active-units"} <= set(kl.OF_SIZES)
    ((_, *panels),) = answered(continuity, library)
    assert len(panels) == 2 * len(continuity.SHOWN)
    ((said, figure, link, *panels),) = answered(kl, library)
    assert said == "2 weights at 8x8x4 (side 8, 4 channels, 256 values)."
    assert figure.data[0].y == (31.0, 20.0)
    assert "kl-weight.csv" in link
    assert len(panels) == 2 * len(kl.OF_SIZES)


def test_without_several_weights_of_the_kl_term_it_says_so(mixed_library):
    ((said, figure, link, *_),) = answered(kl, mixed_library)
    assert (said, figure, link) == (kl.NO_ROW, None, "")


def test_maps_grow_size_by_size_and_name_side_channels_and_values(library):
    first, last = answered(maps, library)
    assert (first[0].count("<img"), last[0].count("<img")) == (2, 4)
    assert last[0].count("nats per value") == 2 * 4, "in a caption and in what stands for the picture"
    assert "side 16, 1 channel, 256 values" in last[0]


def test_ways_between_two_images_grow_size_by_size(library):
    (first,), (last,) = answered(between, library, second_class="Bag", second_number=2)
    assert last.startswith(first)
    assert last.count("<img") == 2 * 2
    assert "From Ankle boot, " in last
    assert " to Bag, " in last


def test_the_second_image_is_of_another_class_where_none_of_these_images_is_chosen(library):
    def caption(class_name: str, second_class: str) -> str:
        second = between.SETTINGS(checkpoint="tiny-ldm", class_name=class_name, second_class=second_class)
        return second_image(library, "tiny-ldm", class_name, second).caption

    assert caption("Bag", "").startswith("T-shirt")
    assert caption("T-shirt", "red").startswith("Trouser")
    assert caption("Bag", "Bag").startswith("Bag")


def test_the_table_has_dashes_for_what_was_not_measured_and_all_of_it_as_csv(library):
    ((shown, link),) = answered(table, library, sizes=("tiny-ldm", "size-8x8x4"))
    assert shown.count("<tr>") == 3
    assert "<td>–</td>" in shown
    assert "latent-size-all-measures.csv" in link
    rows = csv.DictReader(
        io.StringIO(table.all_measures(words.compared(library, latent_size.SETTINGS(checkpoint="tiny-ldm"))))
    )
    assert {row["checkpoint"]: row["psnr_db"] for row in rows} == {"size-8x8x4": "30.0", "size-16x16x1": "33.0"}


def test_several_sizes_are_read_out_of_an_address_and_a_link_of_8_and_32_sets_b_beside_a():
    asked, other = chosen.SETTINGS.read("checkpoint=c&class_name=Bag&size=size-8x8x4&b.size=size-32x32x1")
    assert (asked.size, other.size, other.class_name) == ("size-8x8x4", "size-32x32x1", "Bag")
    asked, other = latent_size.SETTINGS.read("checkpoint=c&sizes=one&sizes=two&size=one&b.size=two")
    assert (asked.sizes, other) == (("one", "two"), None), "the sentence and the figure have no size that is shown"


def test_a_room_and_each_of_its_parts_has_a_question_of_its_own(library):
    page = build_page(library)
    ids = [block.elem_id for block in page.app.blocks.values() if block.elem_id]
    names = [asked.NAME for room in ROOMS for asked in (room, *getattr(room, "PARTS", ()))]
    assert len(set(names)) == len(names)
    assert all(ids.count(question_id(name)) == 1 for name in names)
    assert all(is_folded(part) for part in latent_size.FOLDS)
    assert {"sizes", "size", "second_class", "number", "seed"} <= set(parameters_of(latent_size))
    (script,) = (route for route in page.routes if route.path.endswith(".js"))
    known = script.endpoint(None).body.decode()
    asks = json.loads(known[known.index("{") : known.index(";\n")])["asks"]
    folded = {"room": "latent-size", "folded": True, "long": False}
    assert asks["sizes-kl"] == folded | {"parameters": ["checkpoint", "sizes"]}


def test_in_a_browser_a_click_on_a_picture_or_a_point_shows_that_size_and_a_fold_asks_when_it_is_opened(
    browser, library
):
    built = build_page(library)
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    asked = []
    page.on("request", lambda request: asked.append(request.post_data) if "queue/join" in request.url else None)
    try:
        page.goto(launch(built.app, Limits(), quiet=True, **built.options) + "?room=latent-size&checkpoint=tiny-ldm")
        figure = page.locator(".ldm-pick-size .js-plotly-plot")
        figure.locator(".point").first.wait_for()
        page.locator(".ldm-sizes button").first.wait_for()
        assert figure.bounding_box()["y"] + figure.bounding_box()["height"] <= 720
        assert len(asked) == 3, "the room and its two open parts"
        page.locator('.ldm-sizes button[data-name="size-16x16x1"]').click()
        page.get_by_text("size-16x16x1: side 16").wait_for()
        assert "size=size-16x16x1" in page.url
        assert len(asked) == 4
        figure.locator(".ldm-ring").first.wait_for()
        page.get_by_role("button", name="Keep as B").click()
        page.evaluate(
            "document.querySelector('.ldm-pick-size .js-plotly-plot').emit('plotly_click', "
            "{points: [{data: {ids: ['size-8x8x4']}, pointNumber: 0}]})"
        )
        page.get_by_text("size-8x8x4: side 8").wait_for()
        page.get_by_text("size-16x16x1: side 16").wait_for()
        assert "size=size-8x8x4&b.size=size-16x16x1" in page.url
        page.go_back()
        page.locator(".ldm-ways:not(.two) section").first.wait_for()
        assert page.locator(".ldm-sizes [aria-pressed=true]").get_attribute("data-name") == "size-16x16x1"
        before = len(asked)
        page.get_by_role("button", name=table.TITLE).click()
        page.locator(".ldm-table").first.wait_for()
        assert len(asked) == before + 1
    finally:
        page.close()
        built.app.close()
