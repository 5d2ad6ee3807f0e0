"""One change of a run's folder, and what changes are made of."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """One change of a copy of the run's folder."""

    file: str  # the kind of file that it is of
    what: str
    change: Callable[[Path], object]

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def copied(name: str, to: list[str]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for target in to:
            (folder / target).parent.mkdir(exist_ok=True)
            shutil.copy(folder / name, folder / target)

    return change


def written(name: str, content: Callable[[], str | bytes]) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        data = content()
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode(errors="surrogateescape"))

    return change


def replaced(name: str, put: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        put(path)

    return change
