"""The page: the pipeline on top, the rooms as tabs, the rail with the controls that the open room uses."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.data_classes import BlocksConfigDict
from starlette.routing import Route

from ldm_explorer.explore.library import Library
from ldm_explorer.ui.answers import RESULTS, Room, compares
from ldm_explorer.ui.api import build_api
from ldm_explorer.ui.controls import CONTROLS, described
from ldm_explorer.ui.html import Markup, html, join, style
from ldm_explorer.ui.lessons import build_lessons, lessons_in
from ldm_explorer.ui.opener import build_button, build_dialog
from ldm_explorer.ui.page_script import ASSETS, PageScript, once_loaded
from ldm_explorer.ui.parts import is_folded, lay_out, line, parameters_of, parts_of, question_id
from ldm_explorer.ui.pictures import notice
from ldm_explorer.ui.rooms import ROOMS
from ldm_explorer.ui.server.work import LONG
from ldm_explorer.ui.settings import TOGETHER
from ldm_explorer.ui.thumbnails import ImageSets
from ldm_explorer.ui.tools import build_tools, tool_row, under_the_stage

STYLES = (
    "page.css",
    "pictures.css",
    "stage.css",
    "sizes.css",
    "diagnosis.css",
    "curve.css",
    "velocity.css",
    "opener.css",
)
CSS = "".join((ASSETS / name).read_text(encoding="utf-8") for name in STYLES)
THEME = gr.themes.Default(
    primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"], text_size="md"
).set(  # Gradio's own greys are too pale to be read from the last row
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    block_label_text_color="*neutral_600",
    block_label_text_color_dark="*neutral_300",
    block_title_text_color="*neutral_700",
    block_title_text_color_dark="*neutral_200",
)
NO_CHECKPOINTS = (
    "No checkpoint was found. Give a folder that holds some with `--checkpoints`: the repository has one of that name, "
    "and `accelerate launch train/vae.py` and `accelerate launch train/ldm.py` train your own."
)
ENDPOINTS_HERE = (
    "They answer programs: `gradio_client` lists them with `Client(ADDRESS).view_api()`, and docs/api.md in the "
    "repository has examples. The page itself is one address up."
)
STRIP = (
    ("image", "reconstruction", "image"),
    ("encoder", "reconstruction", None),
    ("latent", "latent-size", "latent"),
    ("+ noise(t)", "alphas-betas", "noisy"),
    ("denoiser", "training", "predicted"),
    ("sampler", "denoising", None),
    ("decoder", "reconstruction", None),
    ("image", "denoising", "result"),
)
"""The pipeline: what a box says, the room that it opens, and the slot of the picture that it shows."""


@dataclass(frozen=True)
class Page:
    """The app, and what Gradio wants when it is launched."""

    app: gr.Blocks
    head: str = ""
    routes: tuple[Route, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """Of `ui.server.launch.launch`."""
        # Given as `css`, rules could not ask for classes of the body; :root, three times, lets them win over Gradio's.
        rules = f":root:root:root {{\n{CSS}{room_css()}}}"
        own = {"theme": THEME, "head": str(join([style(rules), self.head])), "routes": self.routes}
        return own | {"footer_links": ["gradio"]}


class LightBlocks(gr.Blocks):
    """Blocks whose configuration leaves out what neither the page nor gradio_client reads: every visitor gets it."""

    def get_config_file(self) -> BlocksConfigDict:
        config = super().get_config_file()
        for component in config["components"]:
            for name in ("api_info_as_input", "api_info_as_output", "example_inputs", "component_class_id"):
                component.pop(name, None)
            component["props"].pop("preserved_by_key", None)
            if component["type"] not in ("api", "image"):  # gradio_client looks there for files
                component.pop("api_info", None)
        return config


def build_page(library: Library) -> Page:
    """The whole page over a library of checkpoints; it also stands when there are none, and says so."""
    with LightBlocks(title="LDM Explorer", analytics_enabled=False, delete_cache=(3600, 3600)) as app:
        skipped = [skip.reason + "." for skip in library.skipped]
        if not library.checkpoints:
            gr.Markdown("# LDM Explorer")
            gr.HTML(notice(["Not shown:", *skipped] if skipped else []))
            gr.Markdown(NO_CHECKPOINTS)
            return Page(app)
        gr.HTML(strip(), js_on_load=once_loaded("ldm.strip(element)"), elem_classes="ldm-bar", padding=False)
        build_lessons(LESSONS_HERE)
        line()
        gr.HTML(html('<p id="ldm-message" role="alert"></p>{}', notice(["Not shown:", *skipped] if skipped else [])))
        with gr.Row(elem_classes="ldm-body"):
            with gr.Column(elem_classes="ldm-rail", min_width=240):
                controls, pin = _rail(library)
            with gr.Column(elem_classes="ldm-main"), gr.Tabs() as tabs:
                asks = [name for room in ROOMS for name in _room(room, library)]
        _connect(app, tabs, controls, pin, asks)
        build_tools(ROOMS, library, RESULTS)
        if library.may_open:
            build_dialog(library)
    with app.route("API", "/api", show_in_navbar=False):  # what no visitor needs is on a page of its own
        gr.Markdown(f"# LDM Explorer's endpoints\n\n{ENDPOINTS_HERE}")
        served = tuple(asked for room in ROOMS for asked in (room, *parts_of(room)))
        build_api(served, library, RESULTS, {name: control.value for name, control in controls.items()})
    images = ImageSets.read(library)
    page_script = PageScript(_known(library, images, controls))
    return Page(app, page_script.head(), (images.route(), page_script.route()))


LESSONS_HERE = lessons_in([room.NAME for room in ROOMS])


def _rail(library: Library) -> tuple[dict[str, gr.components.Component], gr.Button]:
    """The controls, in their order, those that few look for folded away; and the button that keeps B or lets it go."""
    made: dict[str, gr.components.Component] = {}

    def make(name: str) -> None:
        with gr.Column(elem_classes=["ldm-control", *(f"ldm-in-{room.NAME}" for room in ROOMS if uses(room, name))]):
            made[name] = CONTROLS[name].make(library)
            if look := CONTROLS[name].choices:
                made[name].focus(
                    lambda: gr.update(choices=look(library)),
                    None,
                    made[name],
                    api_visibility="private",
                    show_progress="hidden",
                )

    first, *others = [name for name, control in CONTROLS.items() if not control.more]
    folded = [name for name, control in CONTROLS.items() if control.more]
    make(first)
    if library.may_open:
        in_rooms = [f"ldm-in-{room.NAME}" for room in ROOMS if uses(room, first)]
        with gr.Column(elem_classes=["ldm-control", "ldm-opens", *in_rooms]):
            build_button()
    with gr.Column(
        elem_classes=["ldm-control", *(f"ldm-in-{room.NAME}" for room in ROOMS if uses(room, "class_name"))]
    ):
        picker = gr.HTML(
            "",
            html_template='<div class="ldm-picker"></div>',
            js_on_load=once_loaded("ldm.picker(element, watch, () => trigger('pick'))"),
        )
    for name in others:
        make(name)
    picker.pick(None, None, [made["class_name"], made["number"]], js="() => ldm.picked", api_visibility="private")
    in_rooms = [f"ldm-in-{room.NAME}" for room in ROOMS if any(uses(room, name) for name in folded)]
    with gr.Accordion("More", open=False, elem_classes=["ldm-control", *in_rooms]):
        for name in folded:
            make(name)
    with gr.Column(elem_classes=["ldm-control", *(f"ldm-in-{room.NAME}" for room in ROOMS if compares(room))]):
        pin = gr.Button("Keep as B", elem_id="ldm-pin", size="sm")
        pin.click(None, None, pin, js="() => ldm.pin()", api_visibility="private")
    return {name: made[name] for name in CONTROLS}, pin


def uses(room: Room, parameter: str) -> bool:
    """Whether a room shows the control of a parameter; HIDDEN are those that it takes as other rooms left them."""
    return parameter in parameters_of(room) and parameter not in getattr(room, "HIDDEN", ())


def _room(room: Room, library: Library) -> list[str]:
    """Lay out a room with its parts; returns the names of all that is asked on its own."""
    with gr.Tab(room.TITLE, id=room.NAME, elem_classes="ldm-room") as tab:
        gr.Markdown(f"## {room.QUESTION}")
        lay_out(room, library)
        under_the_stage(tab, tool_row(room))
    return [room.NAME, *(part.NAME for part in parts_of(room))]


def _connect(app: gr.Blocks, tabs: gr.Tabs, controls: dict, pin: gr.Button, asks: list[str]) -> None:
    """Controls to address and questions and back, all in the page."""
    by_id = {block.elem_id: block for block in app.blocks.values()}
    values, questions = list(controls.values()), [by_id[question_id(name)] for name in asks]

    def in_page(event: Callable, js: str, outputs: list) -> Any:
        return event(None, values, outputs, js=js, api_visibility="private", show_progress="hidden", queue=False)

    for name, control in CONTROLS.items():
        if control.follows:
            leader = controls[control.follows]
            took = f"(value) => value || ldm.state.values[{json.dumps(control.follows)}]"
            leader.input(None, leader, controls[name], js=took, api_visibility="private", queue=False)
        for takes, what in ((control.own, "own"), (control.fits, "fitting")):
            if takes:
                leader, both = controls["checkpoint"], [controls["checkpoint"], controls[name]]
                took = f"(checkpoint, value) => ldm.{what}({json.dumps(name)}, checkpoint, value)"
                leader.input(None, both, controls[name], js=took, api_visibility="private", queue=False)
        if control.ends_with:
            leader = controls[control.ends_with]
            leader.input(None, None, controls[name], js='() => ""', api_visibility="private", queue=False)
    again = gr.Button("Ask", visible="hidden", elem_id="ldm-gather")
    sliders = [control.change for control in values if isinstance(control, gr.Slider)]
    others = [again.click, *(control.change for control in values if not isinstance(control, gr.Slider))]
    in_page(partial(gr.on, sliders), "(...values) => ldm.settle(values)", questions)
    in_page(partial(gr.on, others), "(...values) => ldm.gather(null, values)", questions)
    for tab in tabs.children:
        in_page(tab.select, f"(...values) => ldm.gather({json.dumps(tab.id)}, values)", questions)
    change = gr.Button("Change", visible="hidden", elem_id="ldm-change")
    change.click(None, None, values, js="() => ldm.changed()", api_visibility="private")
    go = gr.Button("Open", visible="hidden", elem_id="ldm-go")
    go.click(None, None, tabs, js="() => ldm.selected()", api_visibility="private")
    back = gr.Button("Read", visible="hidden", elem_id="ldm-read")
    for event in (app.load, back.click):
        event(
            None,
            None,
            [*values, tabs, pin, *questions],
            js=f"() => {once_loaded('ldm.read()')}",
            api_visibility="private",
        )


def strip() -> Markup:
    """The pipeline as buttons, and for a narrow page the rooms as a list with previous and next."""
    boxes = join(
        (
            html(
                '<button type="button" data-room="{}">{}<span>{}</span></button>',
                room,
                html('<img data-slot="{}" alt="" hidden>', slot) if slot else "",
                name,
            )
            for name, room, slot in STRIP
        ),
        between=html('<i aria-hidden="true">→</i>'),
    )
    options = join(html('<option value="{}">{}</option>', room.NAME, room.TITLE) for room in ROOMS)
    return html(
        '<header><h1>LDM Explorer</h1><nav class="ldm-strip" aria-label="The pipeline">{}</nav>'
        '<nav class="ldm-rooms" aria-label="Rooms">'
        '<button type="button" class="ldm-previous" aria-label="Previous room">‹</button>'
        '<select aria-label="Room">{}</select>'
        '<button type="button" class="ldm-next" aria-label="Next room">›</button>'
        '<button type="button" class="ldm-choose" aria-expanded="false">Choices</button></nav>'
        '<button type="button" class="ldm-enlarge" aria-pressed="false" title="Large text, for a projector">A+</button>'
        "</header>",
        boxes,
        options,
    )


def room_css() -> str:
    """A control is seen in the rooms that use it."""
    rules = (f"body[data-room={room.NAME}] .ldm-control:not(.ldm-in-{room.NAME})" for room in ROOMS)
    return f"{', '.join(rules)} {{ display: none !important; }}\n"


def _known(library: Library, images: ImageSets, controls: dict[str, gr.components.Component]) -> dict[str, Any]:
    """What the page's script has to know of the rooms, the choices and the images."""
    return {
        "rooms": {
            room.NAME: {"title": room.TITLE, "parameters": parameters_of(room), "compares": compares(room)}
            for room in ROOMS
        },
        "asks": {
            asked.NAME: {"room": room.NAME, "folded": is_folded(asked), "long": asked.WORK is LONG}
            | {"parameters": list(asked.SETTINGS.model_fields)}
            for room in ROOMS
            for asked in (room, *parts_of(room))
        },
        "parameters": list(CONTROLS),
        "controls": {name: described(name, control, library) for name, control in controls.items()},
        "together": TOGETHER,
        "lessons": {lesson.name: lesson.room for lesson in LESSONS_HERE},
        "images": images.described(),
        "checkpoints": images.of,
        "opens": {"own": library.may_open.own, "hub": library.may_open.hub_for_all} if library.may_open else None,
    }
