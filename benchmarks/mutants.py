"""What can be wrong with every file of a run folder: one list for the tests and the benchmark."""

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial, reduce
from pathlib import Path

from mutant import Mutant, copied, replaced, written
from mutant_bytes import of_binary, of_pictures, of_tensors
from subject import LOG

from ldm_explorer.run_folder import MARK

WEIGHTS = "diffusion_pytorch_model.safetensors"
JSON_FILES = ("vae/config.json", "unet/config.json", "scheduler/scheduler_config.json", "dataset.json")
JSON_FILES += ("train_config.json", "metrics.json", "model_index.json", "state-000000005/progress.json")
JSON_FILES += (f"{MARK}/files.json",)
JSON_FILES += ("../features/features/config.json", "../seeds.json")
BINARY_FILES = (f"vae/{WEIGHTS}", f"unet/{WEIGHTS}", f"../features/features/{WEIGHTS}", "latents.safetensors")
BINARY_FILES += ("film/step-000000005.webp", "images/1/00001.png")

FRAME = "film/step-{:09}.webp"
SHORT_LINE = '{{"step":{0},"images":{0},"loss":1}}\n'
DEEP = '{"a":' * 50_000 + "[" * 50_000
HOSTILE = {
    "none": "null",
    "true": "true",
    "text": '"text"',
    "nothing": '""',
    "minus one": "-1",
    "zero": "0",
    "one": "1",
    "a fraction": "0.37",
    "300": "300",
    "10^11": "100000000000",
    "2^63": str(2**63),
    "10^400": "1" + "0" * 400,
    "1e308": "1e308",
    "1e-308": "1e-308",
    "NaN": "NaN",
    "minus infinity": "-Infinity",
    "an empty list": "[]",
    "an empty object": "{}",
    "a list": '["text", 1, null]',
    "a nested list": "[[1, [2]], [[]]]",
    "an object": '{"a": {"b": [1]}}',
    "many numbers": json.dumps([0.5] * 100_000),
    "many texts": json.dumps(["x"] * 100_000),
    "100,000 deep": DEEP,
    "a long text": json.dumps("x" * 200_000),
    "a path": '"../../../../etc"',
    "HTML": '"<img src=x onerror=alert(1)>"',
    "control characters": '"\\u0000\\u202e\\n"',
    "half a surrogate": '"\\ud800"',
}
"""As JSON, some of it not to be had from json.dumps."""
WHOLE = {
    "empty": "",
    "cut": "{",
    "null": "null",
    "a list": "[1]",
    "a number": "3",
    "deep": DEEP,
    "bytes": "\udcff\udcfe{}",
}
WHOLE |= {"white": " " * 5_000_000, "a lone bracket": "]", "a key twice": '{"dataset": 1, "dataset": [2]}'}


def all_mutants(subject: Path) -> list[Mutant]:
    """Every one, in a fixed order."""
    found = [mutant for name in JSON_FILES for mutant in _of_json(name, json.loads((subject / name).read_text()))]
    found += _of_log((subject / LOG).read_text().splitlines())
    found += [mutant for name in BINARY_FILES for mutant in of_binary(name, (subject / name).read_bytes())]
    weights = [name for name in BINARY_FILES if name.endswith(".safetensors")]
    found += [mutant for name in weights for mutant in of_tensors(name, (subject / name).read_bytes())]
    for name in (*JSON_FILES, *BINARY_FILES, LOG, "README.md"):
        found += [Mutant(name, what, replaced(name, put)) for what, put in IN_ITS_PLACE.items()]
    return [*found, *of_pictures(), *_of_names()]


def choose_mutants(subject: Path, count: int, seed: int = 0) -> list[Mutant]:
    """Some of them, of every kind of file in turn."""
    order, of_file = random.Random(seed), {}
    for mutant in all_mutants(subject):
        of_file.setdefault(mutant.file, []).append(mutant)
    for mutants in of_file.values():
        order.shuffle(mutants)
    chosen = []
    while len(chosen) < count and any(of_file.values()):
        chosen += [mutants.pop() for mutants in of_file.values() if mutants]
    return chosen[:count]


def _of_json(name: str, content: dict) -> Iterator[Mutant]:
    for place in _places(content):
        field = ".".join(map(str, place))
        for what, raw in HOSTILE.items():
            yield Mutant(name, f"{field} is {what}", written(name, partial(_with_raw, content, place, raw)))
        yield Mutant(name, f"{field} is gone", written(name, partial(_without, content, place)))
    for what, text in WHOLE.items():
        yield Mutant(name, f"all of it is {what}", written(name, lambda text=text: text))


def _places(content: object, place: tuple = ()) -> Iterator[tuple]:
    """Every field, the fields within it, and of lists the first and the last entry."""
    inner = list(content.items()) if isinstance(content, dict) else []
    if isinstance(content, list):
        inner = [(index, content[index]) for index in sorted({0, len(content) - 1} & set(range(len(content))))]
    for key, value in inner:
        yield (*place, key)
        yield from _places(value, (*place, key))


def _with_raw(content: object, place: tuple, raw: str) -> str:
    changed = copy.deepcopy(content)
    _parent(changed, place)[place[-1]] = "@"
    return json.dumps(changed).replace('"@"', raw)


def _without(content: object, place: tuple) -> str:
    changed = copy.deepcopy(content)
    del _parent(changed, place)[place[-1]]
    return json.dumps(changed)


def _parent(content: object, place: tuple) -> object:
    return reduce(lambda inner, key: inner[key], place[:-1], content)


def _of_log(lines: list[str]) -> Iterator[Mutant]:
    for number in (0, len(lines) // 2, len(lines) - 1):
        record = json.loads(lines[number])
        for field in record:
            for what, raw in {**HOSTILE, "two bins": "[0.5, 0.5]", "some NaN": "[NaN, 1e308]"}.items():
                text = partial(_with_line, lines, number, record, field, raw)
                yield Mutant(LOG, f"{field} of line {number + 1} is {what}", written(LOG, text))
    for what, text in WHOLE.items():
        yield Mutant(LOG, f"all of it is {what}", written(LOG, lambda text=text: text))
    yield Mutant(LOG, "200,000 lines", written(LOG, lambda: "".join(map(SHORT_LINE.format, range(1, 200_001)))))
    yield Mutant(LOG, "107 MB", written(LOG, lambda: "".join(f"{line}\n" for line in lines) * 20_000))
    for field, value in {"kl_per_value": 1.0, "mse": 0.1, "validation_grad_norm": "text", "event": [[]]}.items():
        text = "".join(f"{json.dumps(json.loads(line) | {field: value})}\n" for line in lines)
        yield Mutant(LOG, f"{field} in every line", written(LOG, lambda text=text: text))


def _with_line(lines: list[str], number: int, record: dict, field: str, raw: str) -> str:
    return "\n".join([*lines[:number], _with_raw(record, (field,), raw), *lines[number + 1 :], ""])


def _of_names() -> Iterator[Mutant]:
    names = {"no UTF-8": "run-\udcff", "two lines": "run\n2", "HTML": "<img src=x onerror=alert(1)>", "long": "r" * 250}
    for what, name in names.items():
        yield Mutant("names", f"the run's is {what}", lambda folder, name=name: folder.rename(folder.with_name(name)))
    frame, picture = "film/step-000000005.webp", "images/1/00001.png"
    for name in ("film/step-\udcff.webp", "film/step-.webp", f"film/step-{'9' * 200}.webp", "film/step--1.webp"):
        yield Mutant("names", f"a frame's is {name!a}", _unmarked(copied(frame, [name])))
    for name in ("images/-1/1.png", "images/a/1.png", "images/99/1.png", "images/1/\udcff.png", "images/\u00b2/1.png"):
        yield Mutant("names", f"a picture's is {name!a}", _unmarked(copied(picture, [name])))
    frames, pictures = ([form.format(number) for number in range(10, 2010)] for form in (FRAME, "images/0/{}.png"))
    yield Mutant("names", "2,000 frames", _unmarked(copied(frame, frames)))
    yield Mutant("names", "2,000 pictures", _unmarked(copied(picture, pictures)))
    for part in ("vae", "unet", "scheduler", "film", "images"):
        yield Mutant("names", f"{part}/ is a file", replaced(part, lambda path: path.write_text("")))
        yield Mutant("names", f"{part}/ leads to itself", replaced(part, lambda path: path.symlink_to(path)))


def _unmarked(change: Callable[[Path], object]) -> Callable[[Path], None]:
    """As a folder that others made: in a run of ours only what it wrote counts."""

    def changed(folder: Path) -> None:
        change(folder)
        shutil.rmtree(folder / MARK)

    return changed


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(4_000_000_000)


IN_ITS_PLACE: dict[str, Callable[[Path], object]] = {
    "gone": lambda _: None,
    "a named pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nowhere": lambda path: path.symlink_to("/nowhere"),
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
    "4 GB of nothing": _sparse,
}
