"""One owner per fact: where things lie in a run folder, and what else is written in one place alone."""

import ast
import re
from pathlib import Path

import pytest

from ldm_explorer import run_layout
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import (
    PROGRESS_FILE,
    STATE,
    TENSORS_FILE,
    holds_classifier,
    holds_run,
    state_folder,
    step_of,
)

PACKAGE = Path(run_layout.__file__).parent
NAMES = {value for name, value in vars(run_layout).items() if name.endswith("_FILE")} - {run_layout.CARD_FILE}
OWNERS = {
    "Stable Diffusion's betas": (r"0\.00085", {"schedules.py"}),
    "the last class embedding": (
        r"\bnum_class_embeds\b",
        {"denoiser.py", "model_parts.py", "models.py", "network_configs.py", "standalone_pipeline.py"},
    ),
    "a network asked with or without labels": (r"return_dict=False\)\[0\]\[", {"denoiser.py"}),
    "KL": (r"- 1 - \w*(log|variance)", {"latents.py"}),
    "the schedule of a run": (r"\.get\(\"zero_terminal_snr\"", {"run_files.py"}),
    "the name of a state": (r"\"state-", {"run_layout.py"}),
}


def modules() -> dict[str, str]:
    return {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")}


@pytest.mark.parametrize("fact", OWNERS)
def test_a_fact_stands_in_one_place(fact):
    pattern, owners = OWNERS[fact]
    assert {name for name, source in modules().items() if re.search(pattern, source)} == owners


def texts(source: str) -> list[str]:
    """The strings of a module, parts of f-strings among them, without what only documents."""
    nodes = list(ast.walk(ast.parse(source)))
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    strings = (node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [node.value for node in strings if id(node) not in documentation]


def test_no_other_module_spells_the_name_of_a_file_of_a_run():
    spelled = {
        name: text
        for name, source in modules().items()
        for text in texts(source)
        if name != "run_layout.py" and (text == run_layout.NETWORK_CONFIG or any(known in text for known in NAMES))
    }
    assert spelled == {}


def test_a_state_is_known_by_its_name():
    for step in (1, 999_999_999, 10**10):
        for file in (PROGRESS_FILE, TENSORS_FILE):
            name = f"{state_folder(step)}/{file}"
            assert STATE.fullmatch(name)[2] == file
            assert step_of(Path(name).parent) == step
    for name in ("state-5/progress.json", "state-000000005/other.json", "state-00000000x/progress.json"):
        assert STATE.fullmatch(name) is None


@pytest.mark.parametrize(
    "name",
    ["train_config.json", "model_index.json", "vae/config.json", "unet/config.json", "features/config.json"],
)
def test_any_of_its_files_tells_a_run(tmp_path, name):
    assert not holds_run(RunFolder(tmp_path))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    assert holds_run(RunFolder(tmp_path))
    assert holds_classifier(RunFolder(tmp_path)) == name.startswith("features")
