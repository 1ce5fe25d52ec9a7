"""The variants of some models as one Markdown table."""

from collections.abc import Sequence

from posecov.learn.variants.judging import MASSES
from posecov.learn.variants.making import Row


def table(rows: Sequence[Row], *, test: bool) -> str:
    """One row a model.

    Args:
        rows: of `making.make_variants`.
        test: show the figures on test people, of the models that have them, in the place of those on held-out people.
    """
    levels = " / ".join(f"{100 * mass:g}" for mass in MASSES)
    lines = [
        "| model | | file | one thread | PCK@0.2 | NLL | people inside "
        f"{levels} % | 99 % of keypoints move by | the furthest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        pair = row.test if test else row.held
        if pair is None:
            continue
        figures, changed = pair
        first = row.variant == "float32"
        name = row.model if first else ""
        variant = f"{row.variant} ({row.recipe})" if row.recipe and not test else row.variant
        file = f"{row.size / 1e6:.1f} MB" + ("" if first else f", {1 / row.times_smaller:.2f} x")
        speed = f"{row.milliseconds:.1f} ms" + ("" if first else f", {row.times_faster:.2f} times as fast")
        inside = " / ".join(f"{100 * share:.1f}" for share in figures.coverage)
        moved = "| " if first else f"{changed.usual:.2f} px | {changed.largest:.1f} px"
        cells = [name, variant, file, speed, f"{figures.pck:.3f}", f"{figures.nll:.2f}", inside, moved]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def remarks(rows: Sequence[Row]) -> list[str]:
    """A line for each model that was not taken, for what lies below the heads, and for the models with the crop map inside."""
    lines = []
    for row in rows:
        what = f"{row.model}, {row.variant}{f' ({row.recipe})' if row.recipe else ''}"
        if row.refused:
            lines.append(f"{what}: refused: {row.refused}")
        elif row.variant != "float32":
            fate = "" if row.file else ", not taken: another is faster"
            lines.append(f"{what}: backbone and decoder {row.body_times_faster:.2f} times as fast as in float32{fate}")
        if row.whole is not None:
            share, largest = row.whole
            lines.append(
                f"{what}, crop map inside: {100 * share:.2f} % of the keypoints within 0.5 px, largest {largest:.2f} px"
            )
    return lines
