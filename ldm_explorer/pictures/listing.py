"""Pictures that were found and are not yet decoded, and what is said of those that are left out."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ldm_explorer.files import printable
from ldm_explorer.pictures.layout import Split

MAX_REASONS, MAX_NAMED = 6, 3


class DataError(RuntimeError):
    """The dataset cannot be had; the message says what to do."""


class LeftOut(Counter[str]):
    """How many files are left out, by why, with the names of those that somebody took for pictures."""

    def __init__(self, counted: Mapping[str, int] | None = None, names: Mapping[str, Sequence[str]] | None = None):
        super().__init__(counted)
        self.names = dict(names or {})

    def and_named(self, why: str, names: Sequence[str]) -> "LeftOut":
        """With others, by their names."""
        return LeftOut({**self, why: len(names)}, {**self.names, why: names}) if names else self


@dataclass(frozen=True, eq=False)
class Listing:
    """Pictures in the order of their split, then of their name, so that a split is a slice."""

    where: str  # as messages name it
    origin: str  # the place that it is, however it was named
    names: tuple[str, ...]  # relative to it, with slashes
    labels: tuple[int, ...]
    splits: tuple[Split, ...]
    class_names: tuple[str, ...]  # () when there are no classes
    stamp: str  # changes with any picture
    content: Callable[[int], bytes] = field(repr=False)  # of the file in a place
    left_out: LeftOut = field(default_factory=LeftOut)
    notes: tuple[str, ...] = ()  # what was recognised, to be said

    def __len__(self) -> int:
        return len(self.names)

    def at_most(self, count: int) -> "Listing":
        """Some of them, evenly taken, where there are more."""
        if len(self) <= count:
            return self
        chosen = [round(index * (len(self) - 1) / (count - 1)) for index in range(count)]
        return replace(
            self,
            origin=f"{self.origin} {count}",
            names=tuple(self.names[place] for place in chosen),
            labels=tuple(self.labels[place] for place in chosen),
            splits=tuple(self.splits[place] for place in chosen),
            content=lambda place: self.content(chosen[place]),
            notes=(*self.notes, f"{count:,} of {len(self):,} are looked at"),
        )


def said_of(left_out: LeftOut) -> str:
    """How many are left out and why, as part of a line: first what has names, as that is what nobody meant to miss."""
    if not left_out:
        return "none left out"
    reasons = sorted(left_out.most_common(), key=lambda reason: reason[0] not in left_out.names)
    shown = [f"{count:,} {printable(why)}{_named(left_out.names.get(why, ()))}" for why, count in reasons[:MAX_REASONS]]
    if len(reasons) > MAX_REASONS:
        shown.append(f"{sum(count for _, count in reasons[MAX_REASONS:]):,} others")
    return f"{left_out.total():,} left out ({', '.join(shown)})"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return f": {' and '.join(map(printable, names[:MAX_NAMED]))}{more}" if names else ""
