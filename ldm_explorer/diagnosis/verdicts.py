"""What checks say about a folder, and how their accusations are ranked: causes first, their side effects below."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from torch import Tensor

from ldm_explorer.files import as_sentence, counted

Status = Literal["ok", "suspect", "not run"]

OUT_OF_REACH = (
    "decoding without undoing the normalisation of the latents",
    "passing the index of a sampling step in place of its timestep",
    "shifting or dropping labels before the network is called",
    "a sampler's own code, and too few steps or too strong a guidance",
    "preparing images in another way than for training (range, size, inverted)",
)
"""Faults that live in the code that calls a model, not in its folder."""

ASK_FOR_IMAGES = "give a folder of them with --images"


class NotRun(Exception):
    """A check that cannot say anything about this folder; the message says why.

    `doubt` is what did not look right all the same, to be said beside the verdict.
    """

    def __init__(self, why: str, doubt: str = ""):
        super().__init__(why)
        self.doubt = doubt


@dataclass(frozen=True)
class Finding:
    """What one check found. Without an accusation nothing is wrong."""

    evidence: str  # numbers with what they should be, one or two sentences
    accusation: str = ""
    fix: str = ""  # the line to change, or what to do
    severity: int = 0  # 3: nothing it makes can be right, 2: it spoils the images, 1: it harms a little


@dataclass(frozen=True)
class Verdict:
    """A check and its outcome. `evidence` of a check that was not run says why not."""

    name: str
    title: str  # what was looked at; of a suspect, what is wrong
    status: Status
    evidence: str
    fix: str = ""
    severity: int = 0
    explained_by: str | None = None  # the name of the cause that has this as a side effect
    sees_common_faults: bool = False  # it is one of those that have to run for a folder to be judged
    doubt: str = ""  # of a check that was not run: what did not look right, whosever fault it is


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Every check's verdict in the order of the registry, and pictures `(n, C, S, S) uint8` where some were made."""

    folder: str
    verdicts: tuple[Verdict, ...]
    images: Tensor | None = None
    reconstructions: Tensor | None = None
    samples: Tensor | None = None

    @property
    def unseen(self) -> list[Verdict]:
        """The checks that see the common faults of a folder like this one, and were not run."""
        return [verdict for verdict in self.not_run if verdict.sees_common_faults]

    @property
    def is_judged(self) -> bool:
        """Whether enough was looked at: something is accused, or most checks that see the common faults ran."""
        common = [verdict for verdict in self.verdicts if verdict.sees_common_faults]
        return bool(self.causes) or len(self.unseen) <= len(common) / 2

    @property
    def doubts(self) -> list[str]:
        """What keeps a folder without a cause from being called healthy."""
        return [verdict.doubt for verdict in self.not_run if verdict.doubt]

    @property
    def is_healthy(self) -> bool | None:
        """None where that could not be judged."""
        if self.causes:
            return False
        return True if self.is_judged and not self.doubts else None

    @property
    def causes(self) -> list[Verdict]:
        """What is accused, the worst first; among equals the more specific first."""
        causes = [verdict for verdict in self._of("suspect") if verdict.explained_by is None]
        return sorted(causes, key=lambda verdict: -verdict.severity)

    @property
    def symptoms(self) -> list[Verdict]:
        """Suspects that one of the causes explains."""
        return [verdict for verdict in self._of("suspect") if verdict.explained_by is not None]

    @property
    def passed(self) -> list[Verdict]:
        return self._of("ok")

    @property
    def not_run(self) -> list[Verdict]:
        return self._of("not run")

    def _of(self, status: Status) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.status == status]

    def title_of_cause(self, symptom: Verdict) -> str:
        """The title of the cause that explains a symptom."""
        return next(verdict.title for verdict in self.verdicts if verdict.name == symptom.explained_by)

    def sentence(self) -> str:
        """The verdict in one sentence."""
        number = len(self.not_run)
        counts = f"{counted(len(self.passed), 'check')} passed, {number} {'was' if number == 1 else 'were'} not run"
        if not self.is_judged:
            return f"Could not judge {self.folder}: {self._what_would_help()} ({counts})."
        if not self.causes and self.doubts:
            return f"No fault of {self.folder} was found, but {'; '.join(self.doubts)} ({counts})."
        if not self.causes:
            return f"Nothing is wrong with {self.folder} that these checks can see: {counts}."
        first, more = self.causes[0], len(self.causes) - 1
        others = f"; {more} other fault{'s' if more > 1 else ''} below" if more else ""
        return f"Most likely: {first.title[0].lower()}{first.title[1:]}{others} ({counts})."

    def _what_would_help(self) -> str:
        """What lets the checks run that see the common faults; without that, what keeps most of them."""
        if any(ASK_FOR_IMAGES in verdict.evidence for verdict in self.unseen):
            return f"what sees the common faults needs images, {ASK_FOR_IMAGES}"
        (reason, _), *_ = Counter(verdict.evidence for verdict in self.unseen).most_common(1)
        return f"what sees the common faults was not run, because {reason}"

    def as_json(self) -> dict[str, Any]:
        """What the card shows, for programs."""
        return {
            "folder": self.folder,
            "healthy": self.is_healthy,
            "sentence": self.sentence(),
            "causes": [asdict(verdict) for verdict in self.causes],
            "symptoms": [asdict(verdict) for verdict in self.symptoms],
            "passed": [asdict(verdict) for verdict in self.passed],
            "not_run": [asdict(verdict) for verdict in self.not_run],
            "out_of_reach": list(OUT_OF_REACH),
        }


def explain(verdicts: Iterable[Verdict], explains: dict[str, tuple[str, ...]]) -> tuple[Verdict, ...]:
    """Mark every suspect that an earlier cause explains. `verdicts` come from the most specific to the most general."""
    causes: list[str] = []
    explained = []
    for verdict in verdicts:
        if verdict.status == "suspect":
            cause = next((name for name in causes if verdict.name in explains[name]), None)
            if cause is None:
                causes.append(verdict.name)
            verdict = replace(verdict, explained_by=cause)
        explained.append(verdict)
    return tuple(explained)


def by_reason(not_run: Iterable[Verdict]) -> dict[str, list[str]]:
    """The reasons why checks were not run, as sentences, and the checks that each kept."""
    reasons: dict[str, list[str]] = {}
    for verdict in not_run:
        reasons.setdefault(f"{as_sentence(verdict.evidence)}.", []).append(verdict.title)
    return reasons
