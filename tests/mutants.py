"""What can be wrong with every file of a run folder: one list for the tests and the benchmark."""

import copy
import io
import json
import os
import random
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load, save_file
from subject import LOG

WEIGHTS = "diffusion_pytorch_model.safetensors"
JSON_FILES = ("vae/config.json", "unet/config.json", "scheduler/scheduler_config.json", "dataset.json")
JSON_FILES += ("train_config.json", "metrics.json", "model_index.json", "state-000000005/progress.json")
JSON_FILES += ("../features/features/config.json", "../seeds.json")
BINARY_FILES = (f"vae/{WEIGHTS}", f"unet/{WEIGHTS}", f"../features/features/{WEIGHTS}", "latents.safetensors")
BINARY_FILES += ("film/step-000000005.webp", "images/1/00001.png")

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


@dataclass(frozen=True)
class Mutant:
    """One change of a copy of the run's folder."""

    file: str  # the kind of file that it is of
    what: str
    change: Callable[[Path], object]

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def all_mutants(subject: Path) -> list[Mutant]:
    """Every one, in a fixed order."""
    found = [mutant for name in JSON_FILES for mutant in _of_json(name, json.loads((subject / name).read_text()))]
    found += _of_log((subject / LOG).read_text().splitlines())
    found += [mutant for name in BINARY_FILES for mutant in _of_binary(name, (subject / name).read_bytes())]
    weights = [name for name in BINARY_FILES if name.endswith(".safetensors")]
    found += [mutant for name in weights for mutant in _of_tensors(name, (subject / name).read_bytes())]
    for name in (*JSON_FILES, *BINARY_FILES, LOG, "README.md"):
        found += [Mutant(name, what, _replaced(name, put)) for what, put in IN_ITS_PLACE.items()]
    return [*found, *_of_pictures(), *_of_names()]


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
            yield Mutant(name, f"{field} is {what}", _written(name, partial(_with_raw, content, place, raw)))
        yield Mutant(name, f"{field} is gone", _written(name, partial(_without, content, place)))
    for what, text in WHOLE.items():
        yield Mutant(name, f"all of it is {what}", _written(name, lambda text=text: text))


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
                yield Mutant(LOG, f"{field} of line {number + 1} is {what}", _written(LOG, text))
    for what, text in WHOLE.items():
        yield Mutant(LOG, f"all of it is {what}", _written(LOG, lambda text=text: text))
    yield Mutant(LOG, "200,000 lines", _written(LOG, lambda: "".join(map(SHORT_LINE.format, range(1, 200_001)))))
    yield Mutant(LOG, "107 MB", _written(LOG, lambda: "".join(f"{line}\n" for line in lines) * 20_000))
    for field, value in {"kl_per_value": 1.0, "mse": 0.1, "validation_grad_norm": "text", "event": [[]]}.items():
        text = "".join(f"{json.dumps(json.loads(line) | {field: value})}\n" for line in lines)
        yield Mutant(LOG, f"{field} in every line", _written(LOG, lambda text=text: text))


def _with_line(lines: list[str], number: int, record: dict, field: str, raw: str) -> str:
    return "\n".join([*lines[:number], _with_raw(record, (field,), raw), *lines[number + 1 :], ""])


def _of_binary(name: str, content: bytes) -> Iterator[Mutant]:
    for length in (0, 4, 8, 100, len(content) // 2, len(content) - 1):
        yield Mutant(name, f"cut to {length} bytes", _written(name, lambda length=length: content[:length]))
    order = random.Random(name)
    for number in range(10):
        for part, bounds in {"its first bytes": (0, 8), "its head": (8, 300), "its body": (300, len(content))}.items():
            places = order.sample(range(*bounds) if bounds[1] > bounds[0] else range(8), 1 + number // 3)
            changed = _written(name, partial(_flipped, content, places))
            yield Mutant(name, f"bits of {part} flipped, {number}", changed)
    yield Mutant(name, "bytes behind its end", _written(name, lambda: content + bytes(1000)))
    yield Mutant(name, "a header without end", _written(name, lambda: b"\xff" * 5 + bytes(3) + content[8:]))
    header = (90_000_000).to_bytes(8, "little")
    yield Mutant(name, "a header of 90 MB", _written(name, lambda: header + b"{" + b" " * 90_000_000))
    yield Mutant(name, "zeros", _written(name, lambda: bytes(len(content))))


def _of_tensors(name: str, content: bytes) -> Iterator[Mutant]:
    """Whole files of safetensors, each with one tensor or all of them changed."""
    tensors = load(content)
    changes = {
        "NaN": lambda tensor: torch.full_like(tensor.float(), torch.nan),
        "infinite": lambda tensor: torch.full_like(tensor.float(), torch.inf),
        "zeros": torch.zeros_like,
        "negative": lambda tensor: -tensor.float().abs() - 1,
        "large": lambda tensor: tensor.float() * 1e20,
        "of int8": lambda tensor: tensor.to(torch.int8),
        "of bool": lambda tensor: tensor.bool(),
        "of float64": lambda tensor: tensor.double(),
        "half as long": lambda tensor: tensor[: len(tensor) // 2],
        "flat": lambda tensor: tensor.flatten(),
        "without axes": lambda tensor: tensor.flatten()[0],
        "empty": lambda tensor: tensor[:0],
    }
    one = list(tensors) if len(tensors) < 20 else list(tensors)[:: len(tensors) // 5]
    for what, change in changes.items():
        yield Mutant(name, f"every tensor is {what}", _saved(name, {key: change(tensors[key]) for key in tensors}))
        for key in one:
            yield Mutant(name, f"{key} is {what}", _saved(name, tensors | {key: change(tensors[key])}))
    for key in one:
        yield Mutant(name, f"{key} is gone", _saved(name, {other: tensors[other] for other in tensors if other != key}))
        yield Mutant(name, f"{key} is there twice", _saved(name, tensors | {f"{key}.again": tensors[key].clone()}))


def _saved(name: str, tensors: dict[str, torch.Tensor]) -> Callable[[Path], object]:
    return lambda folder: save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / name)


def _flipped(content: bytes, places: list[int]) -> bytes:
    changed = bytearray(content)
    for place in places:
        changed[place % len(content)] ^= 1 << place % 8
    return bytes(changed)


def _of_pictures() -> Iterator[Mutant]:
    for name in ("film/step-000000005.webp", "images/1/00001.png"):
        for size in ((20_000, 20_000), (16_000, 1), (1, 16_000), (9, 16), (4096, 4096)):
            for kind in ("PNG", "WEBP", "GIF", "TIFF", "EPS"):
                yield Mutant(name, f"{size[0]} x {size[1]} pixels, {kind}", _picture(name, size, kind))
        for mode in ("1", "P", "RGBA", "I;16", "F", "CMYK", "LA"):
            kind = "TIFF" if mode in ("F", "CMYK") else "PNG"
            yield Mutant(name, f"pixels of mode {mode}", _picture(name, (16, 16), kind, mode))


def _picture(name: str, size: tuple[int, int], kind: str, mode: str = "RGB") -> Callable[[Path], None]:
    """A picture in the place of another; of the largest the header alone, as whoever attacks would write it."""

    def change(folder: Path) -> None:
        if kind == "PNG" and mode == "RGB":
            (folder / name).write_bytes(png_header(*size))
        elif kind == "WEBP" and max(size) > 16_383:
            (folder / name).write_bytes(webp_of_size(*size))
        else:
            sides = [min(side, 16_000 if min(size) == 1 else 2000) for side in size]
            Image.new(mode, sides).save(folder / name, kind)

    return change


def png_header(width: int, height: int) -> bytes:
    """What begins a PNG of that size, and no pixel of it."""
    sides = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    chunk = b"IHDR" + sides + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + chunk + zlib.crc32(chunk).to_bytes(4, "big") + b"\0\0\0\x08IDAT"


def webp_of_size(width: int, height: int) -> bytes:
    """A WebP that says it is of that size, with two frames in its corner."""
    content, frames = io.BytesIO(), [Image.new("RGB", (8, 8), color) for color in ("red", "green")]
    frames[0].save(content, "WEBP", save_all=True, append_images=frames[1:])
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    return content.getvalue()[:24] + sides + content.getvalue()[30:]


def _of_names() -> Iterator[Mutant]:
    names = {"no UTF-8": "run-\udcff", "two lines": "run\n2", "HTML": "<img src=x onerror=alert(1)>", "long": "r" * 250}
    for what, name in names.items():
        yield Mutant("names", f"the run's is {what}", lambda folder, name=name: folder.rename(folder.with_name(name)))
    frame, picture = "film/step-000000005.webp", "images/1/00001.png"
    for name in ("film/step-\udcff.webp", "film/step-.webp", f"film/step-{'9' * 200}.webp", "film/step--1.webp"):
        yield Mutant("names", f"a frame's is {name!a}", _copied(frame, [name]))
    for name in ("images/-1/1.png", "images/a/1.png", "images/99/1.png", "images/1/\udcff.png", "images/\u00b2/1.png"):
        yield Mutant("names", f"a picture's is {name!a}", _copied(picture, [name]))
    yield Mutant("names", "2,000 frames", _copied(frame, [f"film/step-{number}.webp" for number in range(2000)]))
    yield Mutant("names", "2,000 pictures", _copied(picture, [f"images/0/{number}.png" for number in range(2000)]))
    for part in ("vae", "unet", "scheduler", "film", "images"):
        yield Mutant("names", f"{part}/ is a file", _replaced(part, lambda path: path.write_text("")))
        yield Mutant("names", f"{part}/ leads to itself", _replaced(part, lambda path: path.symlink_to(path)))


def _copied(name: str, to: list[str]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for target in to:
            (folder / target).parent.mkdir(exist_ok=True)
            shutil.copy(folder / name, folder / target)

    return change


def _written(name: str, content: Callable[[], str | bytes]) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        data = content()
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode(errors="surrogateescape"))

    return change


def _replaced(name: str, put: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        put(path)

    return change


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(4_000_000_000)


IN_ITS_PLACE: dict[str, Callable[[Path], object]] = {
    "gone": lambda path: None,
    "a named pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nowhere": lambda path: path.symlink_to("/nowhere"),
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
    "4 GB of nothing": _sparse,
}
