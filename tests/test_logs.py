"""Logs of any training: every format gives the loss back, and what is none is refused in one sentence."""

import builtins
import json
import math
import os
import struct
import sys
from types import ModuleType, SimpleNamespace

import pytest
from log_formats import FORMATS

from ldm_explorer.files import CheckpointError
from ldm_explorer.logs import collector, events, reading, series, text
from ldm_explorer.logs.reading import read_log, read_pasted
from ldm_explorer.logs.series import find_loss

POINTS = [(step, 0.3 + 0.7 / step) for step in range(1, 1201)]


def loss_in(pasted: str, field: str | None = None) -> series.Series:
    return find_loss(read_pasted(pasted), field).judged


@pytest.mark.parametrize("format_", FORMATS)
def test_the_loss_comes_back_of_every_format(format_, tmp_path):
    own = find_loss(read_log(FORMATS[format_](tmp_path, POINTS))).judged
    assert own.values[-1] == pytest.approx(0.3 + 0.7 / 1200, abs=2e-3)
    assert len(own) >= 30
    assert own.values[0] >= own.values[-1]
    assert list(own.steps) == sorted(own.steps)


@pytest.mark.parametrize(
    ("pasted", "name", "values"),
    [
        ("loss: 0.34", "loss", [0.34]),
        ("my training loss is stuck at around 0.34, why?", "training loss", [0.34]),
        ("Train Loss 1.5e-1 | Val Loss 0.2", "train loss", [0.15]),
        ("Epoch 16: 100%|█| 220/220 [13:47<00:00, loss=0.798, v_num=0, train/loss_simple_step=0.797,", None, [0.797]),
        ("[10/100] Loss_D: 0.5 MSE=.25", "mse", [0.25]),
        ("step 5 loss nan\nstep 6 loss nan", "loss", [math.nan, math.nan]),
        ("{'loss': 0.5, 'epoch': 1.0}\n{'loss': 0.25, 'epoch': 2.0}", "loss", [0.5, 0.25]),
        ("0.9\n0.5\n0.4", "loss", [0.9, 0.5, 0.4]),
        ("1,0.9\n2,0.5", "loss", [0.9, 0.5]),
        ("step;loss\n1;0,9\n2;0,5", "loss", [0.9, 0.5]),
        ("Wall time,Step,Value\n1.5,1,0.9\n2.5,2,0.5", "loss", [0.9, 0.5]),
        ('{"loss": [0.9, 0.5], "lr": [1, 1]}', "loss", [0.9, 0.5]),
        ('{"loss": {"0": 0.9, "1": 0.5}}', "loss", [0.9, 0.5]),
        ("[[1.7e9, 1, 0.9], [1.7e9, 2, 0.5]]", "loss", [0.9, 0.5]),
        ("[0.9, 0.5]", "loss", [0.9, 0.5]),
        ('[{"_step": 1, "train": {"loss": "NaN"}}]', "train/loss", [math.nan]),
        ("step 2 loss: 0,41\nstep 3 loss: 0,4, lr: 0,001", "loss", [0.41, 0.4]),
        ("loss: 1,2,3", "loss", [1]),
        ("step\tloss\n1\t0,9\n2\t0,5", "loss", [0.9, 0.5]),
        ('step,loss\n1,"0,9"\n2,"0,5"', "loss", [0.9, 0.5]),
        ('\ufeff{"loss": [0.9, 0.5]}', "loss", [0.9, 0.5]),
        ("step,objective\n1,0.9\n2,0.5", "objective", [0.9, 0.5]),
        ("Schritt;Verlust;lr\n1;0,9;1\n2;0,5;1", "Verlust", [0.9, 0.5]),
        ('{"loss": 0.9}\nWARNING: a line of others\n{"loss": 0.5}\n{"los', "loss", [0.9, 0.5]),
    ],
)
def test_text_is_read_as_people_paste_it(pasted, name, values):
    own = find_loss(read_pasted(pasted), name if name in ("objective", "Verlust") else None)
    own = own.training or own.judged
    assert own.name == name or name is None
    assert own.values == pytest.approx(values, nan_ok=True)


def test_a_bar_that_is_drawn_twice_counts_once_and_counters_of_epochs_go_on():
    bars = [f"Epoch {epoch}: {step}/4 [00:01, loss={0.5 / (epoch + 1)}]" for epoch in range(3) for step in (2, 2, 4)]
    own = loss_in("\r".join(bars))
    assert len(own) == 6
    assert own.steps == (0.5, 1, 1.5, 2, 2.5, 3)


def test_steps_that_go_back_are_numbered_and_it_is_said():
    log = read_pasted("step,loss\n1,0.9\n2,0.8\n1,0.7\n2,0.6")
    assert find_loss(log).judged.steps == (1, 2, 3, 4)
    assert "steps go back" in log.notes[0]


@pytest.mark.parametrize(
    ("fields", "training", "validation"),
    [
        (["loss", "mse", "mse_q0", "vb", "grad_norm"], "mse", None),
        (
            ["train/loss", "train/loss_simple", "train/loss_vlb", "val/loss_simple", "val/loss"],
            "train/loss_simple",
            "val/loss_simple",
        ),
        (["loss", "eval_loss", "learning_rate"], "loss", "eval_loss"),
        (["rec_loss", "kl_loss", "disc_loss", "diffusion_loss"], "diffusion_loss", None),
        (["accuracy", "kl_loss"], "kl_loss", None),
    ],
)
def test_the_unweighted_denoising_loss_is_chosen(fields, training, validation):
    rows = [",".join(["step", *fields])] + [",".join(map(str, [row, *[0.5] * len(fields)])) for row in range(4)]
    curve = find_loss(read_pasted("\n".join(rows)))
    assert (curve.training.name, curve.validation and curve.validation.name) == (training, validation)
    assert curve.judged.name == (validation or training)


def test_a_field_can_be_named_and_one_that_is_not_there_is_refused_with_those_that_are():
    assert loss_in("step,loss,mse\n1,2,3", "loss").values == (2,)
    with pytest.raises(CheckpointError, match="no field 'los': choose one of loss, mse"):
        loss_in("step,loss,mse\n1,2,3", "los")
    with pytest.raises(CheckpointError, match=r"no loss among its fields \(a, b\)"):
        find_loss(read_pasted('[{"step": 1, "a": 2, "b": 3}]'))


def test_a_table_without_a_loss_in_its_head_is_asked_for_the_field_and_two_columns_of_a_name_are_two():
    with pytest.raises(CheckpointError, match=r"no loss among its fields \(accuracy, fid\): name one with --field"):
        find_loss(read_pasted("step,accuracy,fid\n1,0.9,180\n2,0.5,170"))
    for prose in ("Hello, world\n5", "a,b\n1"):
        with pytest.raises(CheckpointError, match="no loss that can be read"):
            read_pasted(prose)
    curve = find_loss(read_pasted("step,loss,loss\n1,0.9,5\n2,0.5,5"))
    assert curve.judged.values == (0.9, 0.5)
    assert curve.others == ("loss (2)",)


def test_only_a_counter_of_updates_has_a_first_step():
    assert loss_in("step,loss\n1,0.9\n2,0.5").counts_updates
    assert not loss_in("epoch,loss\n1,0.9\n2,0.5").counts_updates
    assert not loss_in('[{"_step": 0, "loss": 1}]').counts_updates


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"   \n",
        b"nothing here",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"loss" * 300_000,
        b"loss: " + b"1" * 300_000,
        b"a," * 500_000 + b"\n1",
        b'"' + b"x" * 400_000,
        b"\x00\x01\x02",
        b"\xff\xfe" + b"\x00\xd8" * 50,
        b"step,loss\n" + b"1,x\n" * 50_000,
        b"loss," * 200_000 + b"1\n",
        b'{"loss": ' + b"9" * 5000 + b"}",
        b"\x89PNG\r\n\x1a\n" + bytes(200),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_hostile_log_gives_one_sentence(content, tmp_path):
    path = tmp_path / "log.txt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        find_loss(read_log(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_windows_shell_writes_utf_16(tmp_path):
    path = tmp_path / "log.txt"
    path.write_bytes("step 1 loss: 0.5\r\nstep 2 loss: 0.25\r\n".encode("utf-16"))
    assert find_loss(read_log(path)).judged.values == (0.5, 0.25)


@pytest.mark.parametrize(
    ("module", "name", "limit", "said"),
    [
        (reading, "MAX_LOG_BYTES", 1000, "at most"),
        (collector, "MAX_VALUES", 100, "more than 100 numbers"),
        (collector, "MAX_SECONDS", -1.0, "takes more than"),
    ],
)
def test_more_than_can_be_read_is_refused(module, name, limit, said, tmp_path, monkeypatch):
    path = FORMATS["CSV"](tmp_path, POINTS)
    monkeypatch.setattr(module, name, limit)
    with pytest.raises(CheckpointError, match=said):
        read_log(path)


def test_json_that_is_too_long_is_asked_for_by_lines(monkeypatch):
    monkeypatch.setattr(text, "MAX_JSON_CHARACTERS", 50)
    lines = "\n".join(json.dumps({"step": step, "loss": 0.5}) for step in range(10))
    assert len(loss_in(lines)) == 10
    with pytest.raises(CheckpointError, match="write a record per line"):
        read_pasted(json.dumps([{"loss": 0.5}] * 10))


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is not there"):
        read_log(tmp_path / "gone.csv")
    with pytest.raises(CheckpointError, match="holds no log"):
        read_log(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="no regular file"):
        read_log(tmp_path / "pipe")


def test_a_folder_is_searched_for_a_known_log(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train_log.jsonl").write_text('{"step": 1, "images": 64, "loss": 0.5, "validation_loss": 0.25}')
    curve = find_loss(read_log(tmp_path))
    assert curve.training.values == (0.5,)
    assert curve.validation.values == (0.25,)


def test_events_of_several_folders_keep_their_names_and_bytes_that_are_none_are_refused(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    for folder in ("train", "validation"):
        with SummaryWriter(str(tmp_path / "logs" / folder)) as writer:
            for step in range(4):
                writer.add_scalar("epoch_loss", 1 / (step + 1), step)
                writer.add_text("note", "loss")
    curve = find_loss(read_log(tmp_path / "logs"))
    assert (curve.training.name, curve.validation.name) == ("train/epoch_loss", "validation/epoch_loss")
    assert curve.judged.values == pytest.approx((1, 1 / 2, 1 / 3, 1 / 4))
    broken = tmp_path / "events.out.tfevents.1"
    for content in (b"no events", bytes(1000), struct.pack("<Q", 2**63) + bytes(30)):
        broken.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"tfevents\.1"):
            read_log(broken)


def test_levels_are_written_where_tensorboard_draws_them_into_the_plot_of_the_loss(tmp_path):
    events.write_scalars(tmp_path, "train/loss", {"floor-white": 0.276}, (1, 500))
    (own,) = read_log(tmp_path).series.values()
    assert own.name == "floor-white/train/loss"
    assert own.steps == (1, 500)
    assert own.values == pytest.approx((0.276, 0.276))


@pytest.mark.parametrize(("name", "library"), [("events.out.tfevents.1", "tensorboard"), ("run-1.wandb", "wandb")])
def test_a_library_that_is_missing_is_named(name, library, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(module, *arguments, **named):
        if module.partition(".")[0] == library:
            raise ImportError(f"No module named {module!r}")
        return real(module, *arguments, **named)

    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CheckpointError, match=f"pip install {library}"):
        read_log(tmp_path / name)


def test_a_wandb_file_is_read_in_blocks(tmp_path, monkeypatch):
    """The frame of LevelDB's log, here around JSON in the place of W&B's records, which its own library parses."""

    class Record:
        @staticmethod
        def FromString(content: bytes):
            items = [SimpleNamespace(key=k, nested_key=[], value_json=v) for k, v in json.loads(content).items()]
            return SimpleNamespace(history=SimpleNamespace(item=items, step=SimpleNamespace(num=items and 7)))

    stand_in = ModuleType("wandb.proto.wandb_internal_pb2")
    stand_in.Record = Record
    for name in ("wandb", "wandb.proto"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    record = json.dumps({"train/loss": "0.25", "note": json.dumps("x" * 40_000)}).encode()
    content, left = bytearray(b":W&B\xbe\xe1\x00"), record
    while left:
        room = 32_768 - len(content) % 32_768 - 7
        part, left = left[:room], left[room:]
        kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[len(content) == 7, not left]
        content += struct.pack("<IHB", 0, len(part), kind) + part
    path = tmp_path / "run.wandb"
    path.write_bytes(bytes(content))
    own = find_loss(read_log(path)).judged
    assert (own.name, own.steps, own.values) == ("train/loss", (7,), (0.25,))
    path.write_bytes(b"no such file")
    with pytest.raises(CheckpointError, match="no W&B file"):
        read_log(path)
