"""A module is read at one sitting, and a function on one screen."""

import ast

import pytest
from commands import REPO

LINES_OF_A_MODULE, LINES_OF_A_SCRIPT, LINES_OF_A_FUNCTION = 300, 130, 50
FOLDERS = ("ldm_explorer", "train", "tools", "benchmarks")
FILES = sorted(path for folder in FOLDERS for path in (REPO / folder).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPO)))
def test_no_file_and_no_function_is_long(path):
    text = path.read_text()
    assert len(text.splitlines()) <= (LINES_OF_A_SCRIPT if path.parent.name == "train" else LINES_OF_A_MODULE)
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {function.name for function in functions if function.end_lineno - function.lineno >= LINES_OF_A_FUNCTION}
    assert long == set()
