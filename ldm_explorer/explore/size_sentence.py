"""Which latent size? In one sentence, which claims no more than the measures do."""

from collections.abc import Sequence

from ldm_explorer.explore.size_answer import (
    HEADLINES,
    NOT_KNOWN,
    NOTHING_TO_COMPARE,
    Difference,
    by_shape,
    find_differences,
)
from ldm_explorer.explore.size_measures import SizeMeasures

VERBS = {"psnr_db": "reconstructs", "fd_percent": "generates"}


def answer_in_a_sentence(sizes: Sequence[SizeMeasures], spread: dict[str, float]) -> str:
    """The smallest latent that is as good as any, and what the largest one gives and costs beside it, as Markdown; or
    why nothing is said. From the family's measures and the spread of training seeds.

    As good as any is meant of what it generates; of reconstructions where no two denoisers were measured.
    """
    if not spread:
        return NOT_KNOWN
    shapes = [item.size.shape for item in sorted(by_shape(sizes).values(), key=lambda item: item.size.values)]
    for measure in ("fd_percent", "psnr_db"):
        for difference in find_differences(sizes, shapes, [measure], spread):
            return _sentence(difference, sizes, spread)
    return NOTHING_TO_COMPARE


def chosen_shape(difference: Difference, sizes: Sequence[SizeMeasures]) -> str:
    """Of the shapes that are as good as the best one, that of the least cost where they generate, else the smallest."""
    of_shape = by_shape(sizes)

    def cost(shape: str) -> tuple[float, int]:
        of_images = of_shape[shape].get("gflops_per_image") if difference.measure == "fd_percent" else None
        return of_images or 0, of_shape[shape].size.values

    return min(difference.best, key=cost)


def _sentence(difference: Difference, sizes: Sequence[SizeMeasures], spread: dict[str, float]) -> str:
    chosen, verb = chosen_shape(difference, sizes), VERBS[difference.measure]
    other = difference.shapes[-1] if difference.shapes[-1] != chosen else difference.shapes[0]
    enough = f"{_named(chosen, sizes)} is enough: no latent here {verb} better beyond luck"
    if len(difference.best) > 1:
        enough += ", and of those as good it costs the least" if verb == "generates" else ", none as good is smaller"
    said = find_differences(sizes, (chosen, other), HEADLINES, spread)
    return f"{enough}; {_named(other, sizes)} {_clauses(said)}."


def _named(shape: str, sizes: Sequence[SizeMeasures]) -> str:
    return f"**{shape}** ({by_shape(sizes)[shape].size.in_words})"


def _clauses(differences: Sequence[Difference]) -> str:
    """What the second of two shapes does, against the first."""
    clauses = []
    for item in differences:
        if item.measure in VERBS:
            how = "no differently beyond luck" if item.verdict == "same" else item.verdict
            clauses.append(f"{VERBS[item.measure]} {how}")
        else:
            clauses.append(f"an image costs {item.values[1] / item.values[0]:.1f} times as much")
    return f"{', '.join(clauses[:-1])} and {clauses[-1]}" if len(clauses) > 1 else clauses[0]
