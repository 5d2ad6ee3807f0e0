"""The room on velocity: what its stage and its table say is the algebra's, and the page draws it as it is."""

import math
import re
from dataclasses import replace
from importlib.resources import files

import pytest
import torch

from ldm_explorer.explore.images import example_image, example_images
from ldm_explorer.explore.library import open_library
from ldm_explorer.explore.velocity import CLEAN, decode_latents, view_velocity
from ldm_explorer.ui.pictures import png_data_uri
from ldm_explorer.ui.plane import Plane
from ldm_explorer.ui.rooms import velocity
from ldm_explorer.ui.rooms.velocity import NUM_FRAMES, VelocitySettings

ASSETS = files("ldm_explorer.ui") / "assets"
BOOT = {"class_name": "Ankle boot", "number": 1}


def answer(library, *sides: VelocitySettings) -> tuple:
    (answered,) = velocity.answer(library, sides[0], sides[1] if len(sides) > 1 else None)
    return answered


@pytest.fixture(scope="module")
def answered(library) -> tuple:
    return answer(library, VelocitySettings(checkpoint="tiny-ldm", **BOOT))


def test_every_timestep_is_there_at_once_and_shows_five_latents_of_the_checkpoint(library, answered):
    show = answered[0]
    assert show["done"]
    assert len(show["frames"]) == show["total"] == NUM_FRAMES
    ldm = library.get("tiny-ldm")
    frame = show["frames"][10]
    view = view_velocity(ldm, example_image(ldm, "Ankle boot", 0).pixels, seed=0, t=int(frame["x"]), stride=150)
    plane, *pictures = frame["sides"][0]
    assert [plane["plane"][name] for name in ("a", "b")] == pytest.approx([math.cos(view.angle), math.sin(view.angle)])
    assert [plane["plane"][name] for name in ("a_s", "b_s")] == pytest.approx(
        [math.cos(view.angle_s), math.sin(view.angle_s)]
    )
    assert f"t = {view.t}" in plane["caption"]
    assert f"one DDIM step on, at t = {view.s}" in pictures[-1]["caption"]
    decoded = decode_latents(ldm, [view])[0]
    assert [picture["title"].split(" =")[0] for picture in pictures] == ["z_t", "v", "z0", "ε", "u", "z_s"]
    fixed = [pictures[2]["src"], pictures[3]["src"]]
    assert fixed == [png_data_uri(decoded["z0"]), png_data_uri(decoded["eps"])]


def test_the_table_says_the_numbers_of_every_timestep(library, answered):
    table = answered[2]
    assert "tiny-ldm was trained with" in table
    rows = [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", table)][1:]
    assert [row[0] for row in rows] == [str(int(frame["x"])) for frame in answered[0]["frames"]]
    assert rows[0][4] == "clean"
    titles = re.findall("<th scope='col'>(.*?)</th>", table)
    z0, eps = titles.index("a z_t − b v"), titles.index("b z_t + a v")
    assert len({(row[z0], row[eps]) for row in rows}) == 1, "both come back at every t"
    squares = titles.index("mean squares of z_t and v")
    assert len({row[squares] for row in rows}) == 1, "a turn keeps lengths"
    assert f"add up to {rows[0][squares]}" in table
    ldm = library.get("tiny-ldm")
    view = view_velocity(ldm, example_image(ldm, "Ankle boot", 0).pixels, seed=0, t=500, stride=150)
    row = next(row for row in rows if row[0] == "500")
    shown = dict(zip(titles, row, strict=True))
    assert shown["next t"] == "350"
    assert float(shown["abar"]) == pytest.approx(float(view.mixed.a) ** 2, rel=1e-3)
    assert float(shown["RMS of v"]) == pytest.approx(float(view.v.square().mean().sqrt()), abs=1e-3)
    assert float(shown["v"]) == pytest.approx(float(view.v[0, 4, 4]), abs=1e-3)
    cosine = torch.cosine_similarity(view.z_t.flatten(), view.v.flatten(), dim=0)
    assert float(shown["cosine of z_t and v"]) == pytest.approx(float(cosine), abs=1e-3)


def test_a_flow_lies_on_a_line_and_its_velocity_stays_the_same(flow_folder):
    library = open_library(flow_folder.parents[1])
    show, figure, table, _ = answer(library, VelocitySettings(checkpoint="tiny-flow", **BOOT))
    assert "tiny-flow was trained with" in table
    assert figure.layout.title.text.startswith("a = 1 − s")
    frame = show["frames"][10]
    told = 1000 * frame["sides"][0][0]["plane"]["b"]
    assert frame["label"] == f"s = {told / 1000:.3f}, t = {told:.0f}", "no row of the schedule"
    plane, *pictures = frame["sides"][0]
    assert plane["plane"]["is_flow"]
    assert plane["plane"]["a"] + plane["plane"]["b"] == pytest.approx(1)
    assert [picture["title"].split(" =")[0] for picture in pictures] == ["z_t", "u", "z0", "ε", "z_s"]
    assert len({frame["sides"][0][2]["src"] for frame in show["frames"]}) == 1
    rows = [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", table)][1:]
    titles = re.findall("<th scope='col'>(.*?)</th>", table)
    for column in ("u", "z_t − s u", "z_t + (1 − s) u", "RMS of u"):
        assert len({row[titles.index(column)] for row in rows}) == 1, column
    ldm = library.get("tiny-flow")
    view = view_velocity(ldm, example_image(ldm, "Ankle boot", 0).pixels, seed=0, t=int(frame["x"]), stride=150)
    s, s_next = (view.t + 1) / 1000, (view.t - 149) / 1000
    torch.testing.assert_close(view.z_s, view.z_t + (s_next - s) * (view.eps - view.z0), atol=1e-5, rtol=1e-5)


def test_b_is_another_checkpoint_with_its_own_schedule(library, answered):
    boot = VelocitySettings(checkpoint="tiny-ldm", **BOOT)
    show, figure, table, checked = answer(library, boot, boot.model_copy(update={"checkpoint": "tiny-vae"}))
    assert [side["title"] for side in show["sides"]] == ["tiny-ldm", "tiny-vae"]
    assert all(len(frame["sides"]) == 2 for frame in show["frames"])
    assert show["frames"][3]["sides"][0] == answered[0]["frames"][3]["sides"][0]
    assert len(figure.data) == 2 * len(answered[1].data)
    assert table.count("<table") == 2
    assert "cosine schedule, as tiny-vae is an autoencoder without one" in table
    assert checked == "tiny-ldm"


@pytest.mark.parametrize("name", ["tiny-ldm", "tiny-foreign"])
def test_a_model_of_classes_without_names_stands_beside_one_whose_classes_have_some(library, name):
    """Either may be A: B is asked for the class of the same number."""
    known = library.get("tiny-ldm")
    spec = replace(known.spec, class_names=tuple("0123456789"))
    model = replace(known.model, is_ours=False)
    foreign = replace(known, name="tiny-foreign", dataset="who knows", model=model, told_spec=spec)
    foreign = replace(foreign, told_examples=example_images(known))
    both = replace(library, checkpoints={known.name: known, foreign.name: foreign})
    other = ({"tiny-ldm", "tiny-foreign"} - {name}).pop()
    chosen = VelocitySettings(checkpoint=name, class_name=both.get(name).spec.class_names[9])
    show, figure, *_ = answer(both, chosen, chosen.model_copy(update={"checkpoint": other}))
    assert [side["title"] for side in show["sides"]] == [name, other]
    a, b = show["frames"][5]["sides"]
    assert a == b, "the same image, network and noise"
    assert figure.data


def test_a_step_over_the_first_timestep_ends_at_the_clean_latent(library):
    show, *_ = answer(library, VelocitySettings(checkpoint="tiny-ldm", stride=1000, **BOOT))
    assert all("the clean end" in frame["sides"][0][-1]["caption"] for frame in show["frames"])
    assert all(frame["sides"][0][0]["plane"]["b_s"] == 0 for frame in show["frames"])


def test_a_wrong_step_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="DDIM step is '0': give 1 to 1,000"):
        VelocitySettings.read("checkpoint=tiny-ldm&class_name=Bag&stride=0")


def test_the_page_draws_a_flow_on_the_line_with_u_along_it(browser):
    page = browser.new_page()
    page.set_content("<body></body>")
    page.evaluate("window.ldm = { drawings: {} }")
    page.add_script_tag(content=(ASSETS / "plane.js").read_text())
    drawn = Plane(0.7, 0.3, 0.9, 0.1, title="here", caption="now", is_flow=True).drawn()
    page.evaluate("document.body.append(ldm.drawings.plane.make())")
    page.evaluate("(drawn) => ldm.drawings.plane.draw(document.body.lastChild, drawn)", drawn)
    read = "(arrow) => ['x1', 'y1', 'x2', 'y2'].map((end) => Number(arrow.getAttribute(end)) / 100)"
    x1, y1, x2, y2 = page.eval_on_selector(".arrow.u", read)
    assert (x1, -y1) == pytest.approx((0.7, 0.3))
    assert (x2 - x1, y1 - y2) == pytest.approx((-0.5, 0.5)), "towards noise"
    assert page.eval_on_selector_all(".arrow.v", "(found) => found.map((arrow) => arrow.style.display)") == ["none"]
    assert page.get_attribute(".step", "points").count(",") == 2
    page.close()


@pytest.mark.parametrize(("t", "s"), [(0, CLEAN), (500, 350), (999, 0)])
def test_the_page_draws_z_t_on_the_circle_with_v_as_its_tangent(browser, t, s):
    def point(step: int) -> tuple[float, float]:
        angle = 0.0 if step == CLEAN else math.pi / 2 * step / 999
        return math.cos(angle), math.sin(angle)

    z_t, z_s = point(t), point(s)
    page = browser.new_page()
    page.set_content("<body></body>")
    page.evaluate("window.ldm = { drawings: {} }")
    page.add_script_tag(content=(ASSETS / "plane.js").read_text())
    drawn = Plane(*z_t, *z_s, title="here", caption="now").drawn()
    page.evaluate("document.body.append(ldm.drawings.plane.make())")
    page.evaluate("(drawn) => ldm.drawings.plane.draw(document.body.lastChild, drawn)", drawn)
    assert page.get_attribute(".arrow.u", "x1") is None, "a flow's is not drawn"
    names = ["z0", "eps", "z_t", "v", "z_s"]
    read = "(arrow) => ['x1', 'y1', 'x2', 'y2'].map((end) => Number(arrow.getAttribute(end)))"
    arrows = {name: page.eval_on_selector(f".arrow.{name}", read) for name in names}
    unit = arrows["z0"][2]
    ends = {name: ((x1 / unit, -y1 / unit), (x2 / unit, -y2 / unit)) for name, (x1, y1, x2, y2) in arrows.items()}
    assert ends["z_t"][1] == pytest.approx(z_t, abs=1e-6)
    assert ends["z_s"][1] == pytest.approx(z_s, abs=1e-6)
    start, end = ends["v"]
    assert start == ends["z_t"][1]
    v = (end[0] - start[0], end[1] - start[1])
    assert v[0] * z_t[0] + v[1] * z_t[1] == pytest.approx(0, abs=1e-9)
    assert math.hypot(*v) == pytest.approx(1)
    left, top, width, height = map(float, page.get_attribute("svg", "viewBox").split())
    tips = [(x, y) for x1, y1, x2, y2 in arrows.values() for x, y in ((x1, y1), (x2, y2))]
    assert all(left < x < left + width and top < y < top + height for x, y in tips)
    assert page.get_attribute("svg", "aria-label") == "here. now"
    page.close()
