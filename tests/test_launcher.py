"""What Accelerate's launcher can be told: each is honoured or refused, as the table in docs/training.md says."""

import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
import torch

from ldm_explorer.training import FitConfig, launcher, make_accelerator
from ldm_explorer.training.launcher import check_compiler, check_launcher, told_options

OPEN = FitConfig(max_steps=1)


@pytest.fixture(autouse=True)
def typed(monkeypatch):
    """The launcher's own command line, without what these tests were started with."""
    options: dict = {}
    monkeypatch.setattr(launcher, "_typed", lambda: options)
    for name in [name for name in os.environ if name.startswith("ACCELERATE_") and name != "ACCELERATE_USE_CPU"]:
        monkeypatch.delenv(name)
    return options


REFUSED = {
    "USE_DEEPSPEED": ("true", "asks for DeepSpeed .*leave that out"),
    "USE_FSDP": ("true", "asks for FSDP "),
    "USE_MEGATRON_LM": ("true", "asks for Megatron-LM "),
    "USE_PARALLELISM_CONFIG": ("true", "asks for a parallelism config "),
    "MIXED_PRECISION": ("fp8", "asks for fp8.*give no, fp16 or bf16"),
    "DOWNCAST_BF16": ("1", "--downcast_bf16, which is for TPUs"),
}


@pytest.mark.parametrize(("variable", "value", "said"), [(name, *row) for name, row in REFUSED.items()], ids=REFUSED)
def test_what_no_training_can_be_told_is_refused_before_any_work(monkeypatch, variable, value, said):
    monkeypatch.setenv(f"ACCELERATE_{variable}", value)
    with pytest.raises(ValueError, match=said):
        check_launcher()


@pytest.mark.parametrize("variables", [{"RANK": "0"}, {"PMI_RANK": "1"}, {}])
def test_one_process_where_several_were_asked_for_is_refused(monkeypatch, variables):
    """`accelerate launch --cpu --num_processes 2` starts one."""
    for name, value in ({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"} | variables).items():
        monkeypatch.setenv(name, value)
    if variables:
        check_launcher()
    else:
        with pytest.raises(ValueError, match="torchrun --nproc_per_node N"):
            check_launcher()


def test_a_launcher_that_was_told_nothing_changes_nothing(monkeypatch):
    assert told_options(OPEN) == {}
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # as it then passes on
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "auto")  # as a config of DeepSpeed's may say
    check_launcher()
    assert told_options(OPEN) == {}


HONOURED = {
    ("GRADIENT_ACCUMULATION_STEPS", "4"): {"gradient_accumulation_steps": 4},
    ("MIXED_PRECISION", "bf16"): {"precision": "bf16"},
    ("MIXED_PRECISION", "fp16"): {"precision": "fp16"},
    ("GRADIENT_CLIPPING", "1.0"): {},
}


@pytest.mark.parametrize(("variable", "told"), HONOURED.items(), ids=[" ".join(key) for key in HONOURED])
def test_what_a_training_leaves_open_is_as_the_launcher_was_told(monkeypatch, variable, told):
    monkeypatch.setenv(f"ACCELERATE_{variable[0]}", variable[1])
    assert told_options(OPEN) == told
    assert told_options(replace(OPEN, **told)) == {}, "both alike"


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"gradient_accumulation_steps": 4}, {"gradient_accumulation_steps": 4}),
        ({"mixed_precision": "no"}, {"precision": "fp32"}),
        ({"num_cpu_threads_per_process": 3}, {"threads": 3}),
    ],
)
def test_options_that_the_launcher_keeps_to_itself_are_read_from_its_command_line(monkeypatch, typed, option, told):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    typed |= option
    assert told_options(OPEN) == told


@pytest.mark.parametrize(
    ("variable", "value", "ours", "said"),
    [
        ("GRADIENT_ACCUMULATION_STEPS", "4", {"gradient_accumulation_steps": 2}, "steps is 2, and .* was told 4"),
        (
            "MIXED_PRECISION",
            "bf16",
            {"precision": "fp32"},
            "--precision is fp32, and .* was told bf16: give one of them",
        ),
        ("GRADIENT_CLIPPING", "0.5", {}, "--grad-clip-norm is 1.0, and .* was told 0.5"),
        ("GRADIENT_ACCUMULATION_STEPS", "0", {}, "ACCELERATE_GRADIENT_ACCUMULATION_STEPS is 0: give a number above 0"),
        ("GRADIENT_ACCUMULATION_STEPS", "1.5", {}, "is 1.5: give a number above 0"),
        ("GRADIENT_CLIPPING", "nan", {}, "is nan: give a number above 0"),
        ("MIXED_PRECISION", "tf32", {}, "is tf32: give one of no, bf16, fp16"),
    ],
)
def test_two_that_differ_and_what_is_no_value_are_refused(monkeypatch, variable, value, ours, said):
    monkeypatch.setenv(f"ACCELERATE_{variable}", value)
    with pytest.raises(ValueError, match=said):
        told_options(replace(OPEN, **ours))


@pytest.mark.parametrize(
    "command",
    [
        ["/usr/bin/python3", "/venv/bin/accelerate", "launch"],
        ["python", "-m", "accelerate.commands.launch"],
        ["C:\\venv\\Scripts\\accelerate.exe", "launch"] if sys.platform == "win32" else ["accelerate-launch"],
    ],
)
def test_the_launchers_command_line_is_found_among_the_processes_that_started_this_one(monkeypatch, command):
    monkeypatch.undo()
    words = [*command, "--cpu", "--gradient_accumulation_steps", "4", "train/ldm.py", "--widths", "16"]
    parents = [SimpleNamespace(cmdline=lambda: ["python.exe", "train/ldm.py"]), SimpleNamespace(cmdline=lambda: words)]
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(parents=lambda: parents))
    found = launcher._typed.__wrapped__()
    assert (found["gradient_accumulation_steps"], found["mixed_precision"]) == (4, None)
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(parents=lambda: parents[:1]))
    assert launcher._typed.__wrapped__() == {}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"BACKEND": "no_such"}, "as its backend give one of no, eager, .*inductor"),
        ({"BACKEND": "eager", "USE_FULLGRAPH": "perhaps"}, "perhaps"),
        ({"BACKEND": "tvm"}, "--dynamo_backend tvm cannot compile the training of a network here"),
    ],
)
def test_a_compiler_that_cannot_be_had_is_refused_before_any_work(monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(f"ACCELERATE_DYNAMO_{name}", value)
    with pytest.raises(ValueError, match=said):
        check_compiler(torch.device("cpu"))


@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize(
    ("variables", "options", "said"),
    [
        ({"USE_FSDP": "true"}, {}, "asks for FSDP"),
        ({"DYNAMO_BACKEND": "no_such"}, {}, "as its backend give one of"),
        ({}, {"precision": "fp16"}, "fp16 is for GPUs, and this training computes on the CPU"),
    ],
)
def test_a_training_asks_before_it_begins(monkeypatch, tmp_path, variables, options, said):
    for name, value in variables.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    with pytest.raises(ValueError, match=said):
        make_accelerator(replace(OPEN, **options), tmp_path)
