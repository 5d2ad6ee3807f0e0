"""The one place where HTML is made: from literal templates and values, and a value is text, whatever it says."""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape, unescape
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

TAG, INLINE = re.compile(r"</?(?P<name>\w+)[^>]*>"), {"a", "b", "code", "em", "i", "span"}


def html(template: str, /, *values, **named) -> Markup:
    """A literal template with values in its {}, as in `str.format`, escaped but for what this function made."""
    return Markup(template).format(*values, **named)


def join(parts: Iterable[str], between: str = "") -> Markup:
    """The parts as one, each escaped but for what `html` made."""
    return Markup(between).join(parts)


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> Markup:
    """Rows of cells under their titles."""
    head = join(html("<th scope='col'>{}</th>", title) for title in titles)
    body = join(html("<tr>{}</tr>", join(html("<td>{}</td>", cell) for cell in row)) for row in rows)
    return html('<table class="ldm-table"><tr>{}</tr>{}</table>', head, body)


def link_to(query: Mapping[str, object], said: str) -> Markup:
    """A link to where the page's address has this query: a room, and what is chosen in it."""
    return html('<a class="ldm-link" href="?{}">{}</a>', urlencode(query), said)


def escaped(text: str) -> str:
    """For where Gradio takes a string for HTML and also hands it to clients as text, as with the message of an error:
    no tag and no entity is left in it, and quotes stay as they are."""
    return escape(text, quote=False)


def script(name: str, values: Any, code: str) -> Markup:
    """A script that knows values by a name, as JSON: whatever they say, none ends it, for none holds a bracket."""
    known = json.dumps(values).replace("<", "\\u003c")
    return Markup(f"<script>const {name} = {known};\n{code}</script>")


def style(rules: str) -> Markup:
    """Style rules of ours: they hold no value."""
    return Markup(f"<style>{rules}</style>")


def text_in(made: str) -> str:
    """The text of HTML that `html` made, a line for each of its blocks."""
    text = unescape(TAG.sub(lambda tag: "" if tag["name"] in INLINE else "\n", made))
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())
