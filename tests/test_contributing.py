"""What CONTRIBUTING says is to be added works when it is added."""

import re
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace

import diffusers
import pytest
import torch
from PIL import Image

from ldm_explorer import data, samplers, schedules, standalone_pipeline
from ldm_explorer.explore.library import open_library
from ldm_explorer.schedules import make_schedule
from ldm_explorer.ui import controls, page, settings
from ldm_explorer.ui.rooms import ROOMS

CONTRIBUTING = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text()


def blocks(heading: str) -> list[str]:
    """The Python below a heading."""
    section = CONTRIBUTING.split(f"### {heading}\n")[1].split("\n### ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def entries(heading: str, module, name: str, **imported) -> tuple[dict, str]:
    """The list `name` of a module with the entry that the Python below a heading adds to it, and the entry's name.

    Also where somebody has done as the text says, and the list has it already.
    """
    (code,) = blocks(heading)
    (added,) = re.findall(r'^    "(\w+)": ', code, re.MULTILINE)
    scope = vars(module) | imported
    exec(code.replace("    ...\n", f"    **{name},\n"), scope)
    return scope[name], added


def test_the_schedule_takes_signal_away_at_every_step(monkeypatch):
    listed, added = entries("A schedule", schedules, "SCHEDULES")
    monkeypatch.setattr(schedules, "SCHEDULES", listed)
    alpha_bars = make_schedule(added).alpha_bars
    assert alpha_bars.shape == (1000,)
    assert (alpha_bars.diff() < 0).all()


def test_the_sampler_keeps_the_trained_betas(monkeypatch):
    euler = {"EulerDiscreteScheduler": diffusers.EulerDiscreteScheduler}
    listed, added = entries("A sampler", standalone_pipeline, "SAMPLERS", **euler)
    monkeypatch.setattr(samplers, "SAMPLERS", listed)
    schedule = make_schedule("cosine", 100)
    sampler = samplers.make_sampler(added, samplers.make_scheduler(schedule, "v_prediction"))
    assert torch.equal(sampler.alphas_cumprod, schedule.alpha_bars)


def test_the_dataset_is_read_when_it_is_asked_for_and_not_before(monkeypatch, tmp_path):
    listed, added = entries("A dataset", data, "DATASETS")
    monkeypatch.setattr(data, "DATASETS", listed)
    with pytest.raises(data.DataError):
        data.load_split(added, "train", tmp_path / "nowhere")
    spec = data.dataset_spec(added)
    for number, class_name in enumerate(spec.class_names * 10):
        (tmp_path / class_name).mkdir(exist_ok=True)
        Image.new("RGB", (70, 64), (number, 0, 0)).save(tmp_path / class_name / f"{number}.png")
    images = data.load_split(added, "train", tmp_path)
    assert images.images.shape[1:] == (spec.channels, spec.model_side, spec.model_side)
    assert set(images.labels.tolist()) == set(range(spec.num_classes))
    third = shutil.copytree(tmp_path, tmp_path / "with a third")  # read anew, as a folder is read once
    shutil.copytree(tmp_path / spec.class_names[0], third / "zebra")
    with pytest.raises(data.DataError, match="labels up to 2, and 2 names of classes"):
        data.load_split(added, "train", third)


def test_the_room_has_a_tab_an_endpoint_and_an_answer(monkeypatch, ldm_folder):
    (code,) = blocks("A room of the app")
    room = ModuleType("mirror")
    exec(code, vars(room))
    monkeypatch.setattr(page, "ROOMS", (*(other for other in ROOMS if other.NAME != room.NAME), room))
    library = open_library(ldm_folder.parents[1])
    app = page.build_page(library).app
    assert [tab.label for tab in app.blocks.values() if getattr(tab, "id", None) == room.NAME] == [room.TITLE]
    assert room.NAME in [fn.api_name for fn in app.fns.values()]
    chosen, beside = room.SETTINGS.read("checkpoint=tiny-ldm&class_name=Bag&b.checkpoint=tiny-ldm")
    ((show,),) = room.answer(library, chosen, beside)
    assert [frame["label"] for frame in show["frames"]] == ["as it is", "mirrored"]
    assert len(show["frames"][0]["sides"]) == 2


def test_the_control_has_the_bounds_and_the_words_of_its_type():
    annotation, entry = blocks("A control")
    scope = dict(vars(settings))
    exec(annotation, scope)
    (control,) = eval(f"{{{entry}}}", vars(controls) | {"settings": SimpleNamespace(**scope)}).values()
    slider = control.make(None)
    assert (slider.minimum, slider.maximum, slider.label) == (0, 3, "Quarter turns")
