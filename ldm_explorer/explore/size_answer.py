"""What does a larger latent give, and what does it cost? In sentences that claim no more than the figures do."""

from collections.abc import Sequence
from dataclasses import dataclass

from ldm_explorer.explore.size_figures import MEASURES, SizeFigures, spread_around

EXACT = ("gflops_per_image",)
"""Counted and not trained: the same for every seed."""
SAMPLED = ("fd_percent", "gflops_per_image")
"""These compare only between samples of one sampler with as many evaluations."""

HEADLINES = ("psnr_db", "fd_percent", "gflops_per_image")
VERBS = {"psnr_db": "reconstructs", "fd_percent": "generates"}
CONTINUITY = (
    "ifd_above_rfd_percent",
    "ifd_random_above_rfd_percent",
    "turn_error",
    "half_scale_mse",
    "largest_step_over_mean",
    "stretch_variation",
)
"""Those of which less is better. Of the spectrum neither more nor less is, and a path as short as its chord is a
cross-fade."""

COMPARISONS = {
    "More values at one side": ("8x8x1", "8x8x2", "8x8x4", "8x8x8"),
    "More side at equal values": ("4x4x16", "8x8x4", "16x16x1"),
    "Side 8 or 32": ("8x8x4", "32x32x1"),
    "8 or 32 channels": ("4x4x8", "4x4x32"),
}
PAIRS = ("Side 8 or 32", "8 or 32 channels")
IN_CONTINUITY = ("More side at equal values", *PAIRS)
"""Of these the first and the last latent are compared."""
NOT_KNOWN = (
    "How far figures differ between training seeds is not known here, so no difference between latents is claimed: the "
    "figures below are of one training each."
)
NOTHING_TO_COMPARE = "There are no two latents here of those that are compared in words."


@dataclass(frozen=True)
class Difference:
    """One measure of latents of several shapes, from the smallest latent on."""

    measure: str
    shapes: tuple[str, ...]
    values: tuple[float, ...]
    spread: float  # of training seeds, as `read_training_spread` gives it

    @property
    def best(self) -> tuple[str, ...]:
        """The shapes that are no further than the spread from the best one; all where no difference can be claimed."""
        best = (max if MEASURES[self.measure].higher_is_better else min)(self.values)
        pairs = zip(self.shapes, self.values, strict=True)
        return tuple(shape for shape, value in pairs if abs(value - best) <= self.tolerance(value, best))

    def tolerance(self, *values: float) -> float:
        """How far seeds alone move figures of this size, in the measure's unit."""
        return max(spread_around(self.measure, value, {self.measure: self.spread}) for value in values)

    @property
    def verdict(self) -> str:
        """ "better" or "worse" of the last one of two, "best with ..." of more, or "same" within the spread."""
        if len(self.best) == len(self.shapes):
            return "same"
        if len(self.shapes) > 2:
            return f"best with {' and '.join(self.best)}"
        return "better" if self.best[0] == self.shapes[-1] else "worse"


def find_differences(
    figures: Sequence[SizeFigures], shapes: Sequence[str], measures: Sequence[str], spread: dict[str, float]
) -> tuple[Difference, ...]:
    """Of each measure that two of the shapes and the training seeds were measured in; the others are left out."""
    of_shape = {item.size.shape: item for item in figures if item.of_its_shape}
    found = []
    for measure in measures:
        items = [of_shape[shape] for shape in shapes if shape in of_shape and measure in of_shape[shape].figures]
        ways = {(item.sampler, item.evaluations) for item in items} if measure in SAMPLED else ()
        of_seeds = 0.0 if measure in EXACT else spread.get(measure)
        if len(items) > 1 >= len(ways) and of_seeds is not None:
            compared = tuple(item.size.shape for item in items), tuple(item.figures[measure] for item in items)
            found.append(Difference(measure, *compared, of_seeds))
    return tuple(found)


def answer(figures: Sequence[SizeFigures], spread: dict[str, float], with_continuity: bool = True) -> str:
    """The answer as Markdown, from the family's figures and the spread of training seeds.

    `with_continuity` ends it with a line that has no figures, where `continuity_answer` does not stand beside it.
    """
    if not spread:
        return NOT_KNOWN
    lines = [
        _headline(title, find_differences(figures, shapes, HEADLINES, spread), figures)
        for title, shapes in COMPARISONS.items()
    ]
    if with_continuity and (continuity := _continuity(figures, spread, with_figures=False)):
        lines.append(f"**Continuity**. {' '.join(continuity)}")
    parts = [_in_short(figures, spread), _list(lines)]
    return "\n\n".join(part for part in parts if part) or NOTHING_TO_COMPARE


def continuity_answer(figures: Sequence[SizeFigures], spread: dict[str, float]) -> str:
    """Which measures of continuity get worse and which do not, by side and by channels, as Markdown with figures."""
    return _list(_continuity(figures, spread, with_figures=True))


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines if line)


def _in_short(figures: Sequence[SizeFigures], spread: dict[str, float]) -> str:
    """A sentence without figures for each pair that was measured whole."""
    sentences = []
    for title in PAIRS:
        differences = find_differences(figures, COMPARISONS[title], HEADLINES, spread)
        if len(differences) == len(HEADLINES):
            *verdicts, cost = differences
            (small, large), ratio = cost.shapes, cost.values[1] / cost.values[0]
            words = [f"{VERBS[item.measure]} {_adverb(item.verdict)}" for item in verdicts]
            price = f"{ratio:.1f} times as much" if round(ratio, 1) != 1 else "as much"
            sentences.append(f"{large} in the place of {small} {', '.join(words)}, and an image costs {price}.")
    return " ".join(sentences)


def _adverb(verdict: str) -> str:
    return "with no difference beyond luck" if verdict == "same" else f"**{verdict}**"


def _headline(title: str, differences: tuple[Difference, ...], figures: Sequence[SizeFigures]) -> str:
    if not differences:
        return ""
    shapes = max((difference.shapes for difference in differences), key=len)
    raw = {item.size.shape for item in figures if not item.size.compresses}
    named = [f"{shape} (no compression: pixel diffusion in disguise)" if shape in raw else shape for shape in shapes]
    return f"**{title}**, {' → '.join(named)}: {'; '.join(_in_words(item, shapes) for item in differences)}."


def _in_words(difference: Difference, shapes: tuple[str, ...]) -> str:
    measure = MEASURES[difference.measure]
    where = "" if difference.shapes == shapes else f" ({' → '.join(difference.shapes)})"
    values = " → ".join(f"{value:#.3g}".rstrip(".") for value in difference.values)
    figures = f"{measure.title} {values} {measure.unit}{where}"
    if difference.measure in EXACT:
        return figures
    if difference.verdict == "same":
        return f"{figures}, no difference beyond the spread of seeds ({_spread(difference)})"
    return f"{figures}, **{difference.verdict}** (spread of seeds {_spread(difference)})"


def _spread(difference: Difference) -> str:
    return f"{difference.spread:.2g} dB" if MEASURES[difference.measure].unit == "dB" else f"{difference.spread:.0%}"


def _continuity(figures: Sequence[SizeFigures], spread: dict[str, float], with_figures: bool) -> list[str]:
    """A sentence for each comparison of which something is known."""
    sentences = []
    for title in IN_CONTINUITY:
        shapes = COMPARISONS[title][0], COMPARISONS[title][-1]
        differences = find_differences(figures, shapes, CONTINUITY, spread)
        if differences:
            sentences.append(f"{title}, {' → '.join(shapes)}: {_by_verdict(differences, with_figures)}.")
    return sentences


def _by_verdict(differences: tuple[Difference, ...], with_figures: bool) -> str:
    def named(item: Difference) -> str:
        name, (first, last) = MEASURES[item.measure].title, item.values
        return f"{name} ({first:.2g} → {last:.2g}, spread {item.spread:.0%})" if with_figures else name

    names = {
        verdict: ", ".join(named(item) for item in differences if item.verdict == verdict)
        for verdict in ("worse", "better", "same")
    }
    said = [f"**{verdict}**: {names[verdict]}" for verdict in ("worse", "better") if names[verdict]]
    if names["same"] and with_figures:
        said.append(f"no difference beyond the spread of seeds: {names['same']}")
    elif names["same"]:
        said.append(f"{'the others' if said else 'all measures'}: no difference beyond the spread of seeds")
    return "; ".join(said)
