"""The room "Diagnosis": the verdict first, checks one by one, and nothing before it is asked."""

import re
import shutil
from html import unescape
from urllib.parse import parse_qs

import pytest
from folder_edits import edit_json

from ldm_explorer.diagnosis import case as case_module
from ldm_explorer.diagnosis.checks import CHECKS
from ldm_explorer.explore.diagnosis import diagnose_checkpoint, diagnose_folder
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.rooms import diagnosis as room
from ldm_explorer.ui.rooms.diagnosis import card


@pytest.fixture(autouse=True, scope="module")
def _fewer_latents():
    """The same checks on half as many latents and images."""
    patch = pytest.MonkeyPatch()
    patch.setattr(case_module, "MAX_BATCH", 16)
    patch.setattr(case_module, "MAX_IMAGES", 50)
    yield
    patch.undo()


def answered(library: Library, name: str, beside: str | None = None) -> list[str]:
    chosen, other = (room.SETTINGS(checkpoint=given) if given else None for given in (name, beside))
    return [shown for (shown,) in room.answer(library, chosen, other)]


def test_the_room_shows_causes_pictures_and_what_was_not_run(library):
    *examining, html = answered(library, "tiny-ldm")
    assert html == answered(library, "tiny-ldm")[-1]
    assert html.index("Most likely") < html.index("<h3>1. ")
    assert "<code>" in html
    assert html.count("<img") == 3
    assert "Out of reach" in html
    links = [parse_qs(unescape(link).lstrip("?")) for link in re.findall(r'<a class="ldm-link" href="([^"]*)"', html)]
    assert len(links) == len(re.findall(r"<h3>\d+\. ", html)) > 0, "each cause has one"
    assert {name for link in links for name in link["cause"]} <= {check.name for check in CHECKS}
    assert all(link["room"] == ["faults"] and link["checkpoint"] == ["tiny-ldm"] for link in links)
    of_autoencoder = answered(library, "tiny-vae")[-1]
    assert of_autoencoder.count("<img") == 2
    assert "ldm-link" not in of_autoencoder, "nothing is sampled from it"
    assert f"tiny-ldm is examined: 1 of {len(CHECKS)} checks." in examining[0]
    assert not any("<img" in shown for shown in examining[: len(CHECKS)])


def test_what_passed_and_what_was_not_run_is_folded_and_counted(library):
    diagnosis = diagnose_folder(library.get("tiny-vae").folder)
    html = card(diagnosis)
    assert html.count("<details>") == 3
    assert f"<summary>{len(diagnosis.passed)} passed</summary>" in html
    assert f"<summary>{len(diagnosis.not_run)} not run</summary>" in html


def test_a_and_b_are_examined_one_after_the_other(library):
    shown = answered(library, "tiny-ldm", "tiny-vae")
    assert shown[-1].count("ldm-verdict") == 2
    assert "tiny-vae is examined" in shown[-2]
    assert shown[-1].index("<h3>tiny-ldm</h3>") < shown[-1].index("<h3>tiny-vae</h3>")


def test_checks_come_one_by_one_and_the_last_diagnosis_is_the_whole(library):
    checkpoint = library.get("tiny-vae")
    steps = list(diagnose_checkpoint(checkpoint))
    assert [len(step.verdicts) for step in steps] == [*range(1, len(CHECKS) + 1), len(CHECKS)]
    whole = diagnose_folder(checkpoint.folder)
    assert steps[-1].verdicts == whole.verdicts
    assert steps[-1].images.equal(whole.images)
    assert {step.folder for step in steps} == {"tiny-vae"}


def test_a_file_that_was_written_gives_the_room_another_stamp(vae_folder, tmp_path):
    folder = tmp_path / "fashion_mnist" / "tiny-vae"
    shutil.copytree(vae_folder, folder)
    library, chosen = open_library(tmp_path), room.SETTINGS(checkpoint="tiny-vae")
    before = room.stamp(library, chosen, None)
    assert room.stamp(library, chosen, None) == before
    edit_json(folder / "vae" / "config.json", latents_std=[1.0, 1.0, 1.0, 1.0])
    assert room.stamp(library, chosen, None) != before


def test_the_room_takes_names_from_the_library_alone(library, tmp_path):
    with pytest.raises(ValueError, match="choose one of"):
        answered(library, str(tmp_path))


def test_the_room_tells_how_any_folder_is_examined_and_what_the_exit_status_means():
    assert "ldm-diagnose FOLDER" in room.ANY_FOLDER
    said = " ".join(room.ANY_FOLDER.split())
    for status, what in ((0, "for a healthy folder"), (1, "where something is accused"), (2, "cannot be examined")):
        assert re.search(rf"{status} [a-z ]*{what}", said)


def test_the_page_does_not_examine_before_it_is_asked(library, monkeypatch):
    monkeypatch.setattr(room, "diagnose_checkpoint", lambda _: pytest.fail("examined at the start"))
    build_page(library)
