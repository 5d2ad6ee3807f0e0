"""What the package offers to a notebook: each name is there, documented and shown, and importing it costs nothing."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import REPO

import ldm_explorer

PAGE = (REPO / "docs" / "python.md").read_text()
LOADS = """
import sys
import ldm_explorer
print(*(name for name in sys.modules if name.partition(".")[0] in ("torch", "diffusers", "gradio", "plotly")))
print(*(name for name in sys.modules if name.startswith("ldm_explorer.")))
print(*sorted(set(ldm_explorer.__all__) - set(dir(ldm_explorer))))
"""


def imported_for_type_checkers() -> dict[str, str]:
    """Name to module, as the package's root imports them where nothing runs."""
    tree = ast.parse(Path(ldm_explorer.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.name: node.module for node in block.body for alias in node.names}


def headings() -> str:
    return "\n".join(re.findall(r"^## (.*)$", PAGE, re.MULTILINE))


def imported_in_docs() -> set[str]:
    """What the blocks of the page import from the package's root."""
    tree = ast.parse("".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)))
    roots = (node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "ldm_explorer")
    return {alias.name for node in roots for alias in node.names}


def test_importing_the_package_imports_nothing_else():
    command = [sys.executable, "-c", LOADS]
    assert subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout == "\n\n\n"


@pytest.mark.parametrize("name", ldm_explorer.__all__)
def test_every_name_resolves_is_documented_and_is_shown(name):
    value = getattr(ldm_explorer, name)
    assert value.__name__ == name
    assert value.__module__ == imported_for_type_checkers()[name], "type checkers are told where it is"
    assert inspect.getdoc(value).endswith(".")
    assert not inspect.getdoc(value).startswith(f"{name}("), "a docstring, not what a dataclass makes for itself"
    assert f"`{name}`" in headings()
    assert name in imported_in_docs() | {"Checkpoint"}, "that is what read_checkpoint returns"


def test_type_checkers_see_the_names_that_there_are():
    assert sorted(imported_for_type_checkers()) == sorted(ldm_explorer.__all__)


def test_another_name_is_an_attribute_error_and_no_missing_module():
    with pytest.raises(AttributeError, match="module 'ldm_explorer' has no attribute 'nothing'"):
        _ = ldm_explorer.nothing
