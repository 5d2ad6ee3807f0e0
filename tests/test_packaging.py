"""What gets installed, where shipped checkpoints are looked for, and who changes where modules are found."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from commands import REPO

import ldm_explorer
from ldm_explorer import app, shipped
from ldm_explorer.checkpoints import CheckpointError
from ldm_explorer.diagnosis.faults import lab_checkpoint
from ldm_explorer.explore.library import classifier_folder
from ldm_explorer.ui import command

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
COME_WITH_GRADIO = {"annotated_types", "fastapi", "httpx", "starlette"}
OPTIONAL = {"spaces", "datasets", "tensorboard", "wandb"}
MODULE_NAMES = {"pillow": "PIL"}


def imported(*files: Path) -> set[str]:
    """The top-level modules that files import from elsewhere, at their head or anywhere else."""
    ours = {"ldm_explorer", *(path.stem for path in REPO.glob("*/*.py")), "train"}
    modules = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module.partition(".")[0])
    return modules - ours - sys.stdlib_module_names - OPTIONAL


def is_sys_path(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"


def modules_of(requirements: list[str]) -> set[str]:
    names = (re.match(r"[\w-]+", requirement)[0] for requirement in requirements)
    return {MODULE_NAMES.get(name, name) for name in names}


def test_a_space_installs_the_dependencies_of_the_app_with_the_same_bounds():
    needed = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["app"]
    assert sorted((REPO / "requirements.txt").read_text().splitlines()) == sorted(needed)


def test_what_is_imported_is_what_is_installed():
    package = set((REPO / "ldm_explorer").rglob("*.py"))
    of_app = {path for path in package if "ui" in path.parts}
    base = modules_of(PROJECT["dependencies"])
    assert imported(*(package - of_app), *(REPO / "train").glob("*.py")) == base
    assert imported(*of_app) - base - COME_WITH_GRADIO == modules_of(PROJECT["optional-dependencies"]["app"])


def test_one_file_alone_changes_where_modules_are_found_and_every_training_script_imports_it():
    folders = [REPO / name for name in ("ldm_explorer", "train", "tests", "tools", "benchmarks")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    trees = {path.relative_to(REPO).as_posix(): ast.parse(path.read_text()) for path in files}
    touching = {name for name, tree in trees.items() if any(is_sys_path(node) for node in ast.walk(tree))}
    assert touching == {"train/_checkout.py"}
    scripts = [path for path in (REPO / "train").glob("*.py") if "__main__" in path.read_text()]
    assert scripts
    assert all(re.search("^import _checkout", path.read_text(), re.MULTILINE) for path in scripts)


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """As in an environment: nothing lies beside the package, and the working directory is empty."""
    monkeypatch.setattr(shipped, "BESIDE_THE_PACKAGE", tmp_path / "checkpoints")
    monkeypatch.setenv(shipped.VARIABLE, "")
    monkeypatch.delenv(shipped.VARIABLE)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("installed")
def test_without_shipped_checkpoints_a_sentence_says_how_to_get_them(tmp_path):
    default = Path("checkpoints/fashion_mnist/vae-8x8x4")
    assert command.folders_to_show(None) == []
    assert classifier_folder("fashion_mnist", tmp_path) is None
    for need in (lambda: lab_checkpoint("nothing"), lambda: shipped.find_checkpoint(default)):
        with pytest.raises(CheckpointError, match="is not here: clone the repository"):
            need()


@pytest.mark.usefixtures("installed")
def test_folders_given_to_the_app_take_the_place_of_the_shipped_ones(tmp_path):
    given = REPO / "checkpoints"
    assert command.folders_to_show(given) == [given]
    assert classifier_folder("fashion_mnist", given / "sizes") == given / "fashion_mnist" / "features"
    assert shipped.shipped_checkpoints("lab", "lab-healthy").parent == given / "lab"
    assert shipped.find_checkpoint(Path("checkpoints/sizes/kl-1")) == given / "sizes" / "kl-1"
    assert shipped.find_checkpoint(Path("checkpoints/mistyped")) == Path("checkpoints/mistyped")
    assert command.folders_to_show(tmp_path) == [given, tmp_path]


def test_in_a_checkout_the_shipped_ones_come_first_and_each_folder_once(monkeypatch, tmp_path):
    monkeypatch.chdir(REPO)
    monkeypatch.setenv(shipped.VARIABLE, str(tmp_path))
    assert command.folders_to_show(Path("checkpoints")) == [REPO / "checkpoints"]
    assert command.folders_to_show(tmp_path) == [REPO / "checkpoints", tmp_path]


def test_the_app_without_its_extra_says_what_to_install(monkeypatch):
    monkeypatch.setattr(ldm_explorer, "ui", ldm_explorer.ui)  # importing it again below sets another one here
    for name in [name for name in sys.modules if name.startswith("ldm_explorer.ui")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SystemExit, match=r"needs gradio, .* pip install 'ldm-explorer\[app\]'"):
        app.main(["--help"])


@pytest.mark.parametrize("port", ["99999", "0", "-1", "many"])
def test_a_port_that_is_none_is_refused_before_anything_is_read(port, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.parse_options([f"--port={port}"])
    assert f"'{port}' is no port: give 1 to 65535" in capsys.readouterr().err
