"""HTML is made in one place, from literal templates, and values are text."""

import ast
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from folder_edits import edit_json
from markupsafe import Markup

import ldm_explorer.ui
from ldm_explorer.explore.few_evaluations import FewEvaluations
from ldm_explorer.explore.library import open_library
from ldm_explorer.explore.size_measures import write_csv
from ldm_explorer.figures.few_evaluations import few_evaluations_figure
from ldm_explorer.ui.answers import one_sentence
from ldm_explorer.ui.html import escaped, html, join, table
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.page_script import ASSETS
from ldm_explorer.ui.pictures import csv_link

HOSTILE = "<img src=x onerror=\"window.pwned=1\"> & 'more'"
MODULES = sorted(path for path in Path(ldm_explorer.ui.__file__).parent.rglob("*.py") if path.name != "html.py")


def test_values_are_text_and_what_was_made_here_is_not_escaped_again():
    inner = html("<b>{}</b>", HOSTILE)
    assert inner.unescape() == f"<b>{HOSTILE}</b>"
    assert inner.count("<") == 2
    assert html("<p>{}{number:.2f}</p>", inner, number=1) == f"<p>{inner}1.00</p>"
    assert html('<i title="{}">', HOSTILE).count('"') == 2
    assert join([inner, HOSTILE], " <") == f"{inner} <{Markup.escape(HOSTILE)}"
    assert "{0}" in html("{}", "{0}"), "a value is no template"
    assert table(["<"], [[HOSTILE, inner]]).count("<") == 14
    assert all(isinstance(made, Markup) for made in (inner, join([]), table([], [])))


def tag_in(node: ast.AST) -> bool:
    """Whether a literal below a node holds a tag, or the beginning of one."""
    literals = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
    return any(re.search(r"<[a-zA-Z/!]", value) for value in literals if isinstance(value, str))


def faults(module: ast.Module) -> Iterator[str]:
    """Where a module makes HTML in another way than by `html` with a literal template."""
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr) and tag_in(node):
            yield f"line {node.lineno}: an f-string with a tag"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod) and tag_in_string(node):
            yield f"line {node.lineno}: a tag put together by an operator"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if {"html", "markupsafe", "jinja2"} & set(names):
                yield f"line {node.lineno}: imports {names}"
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr in ("format", "join", "replace") and tag_in(called):
                yield f"line {node.lineno}: str.{called.attr} with a tag"
            if isinstance(called, ast.Name) and called.id == "Markup":
                yield f"line {node.lineno}: Markup(...)"
            if isinstance(called, ast.Name) and called.id == "html" and not is_template(node, module):
                yield f"line {node.lineno}: a template that is no literal"


def tag_in_string(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(isinstance(side, ast.Constant | ast.JoinedStr) and tag_in(side) for side in sides)


def is_template(call: ast.Call, module: ast.Module) -> bool:
    """A literal, or a name that is given nothing but a literal."""
    template = call.args[0]
    if isinstance(template, ast.Name):
        given = [
            node.value
            for node in ast.walk(module)
            if isinstance(node, ast.Assign) and any(ast.unparse(t) == template.id for t in node.targets)
        ]
        return bool(given) and all(isinstance(value, ast.Constant) for value in given)
    return isinstance(template, ast.Constant)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_else_makes_html(path):
    assert list(faults(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "source",
    [
        'f"<b>{name}</b>"',
        '"<b>" + name',
        'name + "</b>"',
        '"<b>%s</b>" % name',
        '"<b>{}</b>".format(name)',
        '"<br>".join(names)',
        "import html",
        "from html import escape",
        "from markupsafe import Markup",
        "Markup(name)",
        "html(name)",
        'html(f"{name}")',
        'template = name\ntemplate = "<b>"\nhtml(template)',
    ],
)
def test_other_ways_to_make_html_are_found(source):
    assert list(faults(ast.parse(source)))


def test_what_the_app_opens_with_is_html_that_was_made_by_the_one_function(ldm_folder, vae_folder):
    page = build_page(open_library(ldm_folder.parents[1], vae_folder.parents[1]))
    shown = [block.value for block in page.app.blocks.values() if isinstance(block, gr.HTML)]
    assert len(shown) > 10
    assert [value for value in shown if value and not isinstance(value, Markup)] == []


SCRIPTS = sorted(path for path in ASSETS.iterdir() if path.name.endswith(".js"))
MAKES_HTML = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|\beval\(|Function\("
)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_of_the_page_makes_html_or_code_of_texts(path):
    assert MAKES_HTML.findall(path.read_text()) == []


def test_no_name_ends_the_script_of_the_page(color_folder, tmp_path):
    folder = shutil.copytree(color_folder, tmp_path / "pictures" / "<!--<script>")
    edit_json(folder / "dataset.json", class_names=["</ScRiPt><script>", "]]>"])
    page = build_page(open_library(tmp_path))
    assert re.findall("<!--|</?script", page.head, re.IGNORECASE) == ["<script", "</script"]
    (served,) = (route for route in page.routes if route.path.endswith(".js"))
    script = served.endpoint(None).body.decode()
    known = json.loads(script[script.index("{") : script.index(";\n")])
    assert known["images"][0]["classes"][0]["name"] == "</ScRiPt><script>"


def test_the_sentence_of_an_error_holds_no_tag_but_its_quotes():
    with pytest.raises(gr.Error) as shown, one_sentence():
        raise ValueError(f"unknown class {HOSTILE}")
    assert shown.value.message == "unknown class " + escaped(HOSTILE)
    assert "<" not in shown.value.message
    assert "'more'" in shown.value.message


def test_a_table_that_is_saved_holds_no_formula_and_its_file_name_no_folder():
    saved = write_csv(["name", "=cmd"], [["=1+1", 1], ["@x", -2], ["-3", None], ["a-b", "+"]])
    assert saved == "name,'=cmd\n'=1+1,1\n'@x,-2\n'-3,\na-b,'+\n"
    assert 'download="_x_Set-Cookie_ a_.csv"' in csv_link("", '../"<x>\r\nSet-Cookie: a\u202e')
    assert 'download="size-8x8x4 (2).csv"' in csv_link("", "size-8x8x4 (2)")


def test_names_in_figures_are_text():
    measured = FewEvaluations("run", 100, (1, 2), {"<b>bold</b> & co": (2.0, 1.0)}, None, None)
    (trace,) = few_evaluations_figure(measured).data
    assert trace.name == "&lt;b&gt;bold&lt;/b&gt; &amp; co"
