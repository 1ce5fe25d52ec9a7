"""Who is in the data sets, in numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from posecov.learn.datasets import Record
from posecov.skeleton import Skeleton

_QUANTILES = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "most": 1.0}


def statistics(records: Sequence[Record], skeleton: Skeleton) -> dict[str, Any]:
    """People, pictures, share of labelled and occluded joints, sizes of boxes.

    Returns:
        ``people``, ``pictures``; ``labelled`` and ``occluded``, share of the people for each joint's name; ``complete``, share
        of people with all joints; ``box``, quantiles of the boxes' longer sides in pixels; ``head_sizes``, people whose head
        size (PCKh) is known.
    """
    labelled = np.stack([record.labelled for record in records])
    occluded = np.stack([record.occluded for record in records])
    sides = np.array([record.box[2:].max() for record in records])
    return {
        "people": len(records),
        "pictures": len({record.image for record in records}),
        "complete": float(labelled.all(axis=1).mean()),
        "labelled": dict(zip(skeleton.keypoints, labelled.mean(axis=0).tolist(), strict=True)),
        "occluded": dict(zip(skeleton.keypoints, occluded.mean(axis=0).tolist(), strict=True)),
        "box": {name: float(np.quantile(sides, share)) for name, share in _QUANTILES.items()},
        "head_sizes": int(np.isfinite([record.head_size for record in records]).sum()),
    }


def table(parts: dict[str, dict[str, Any]]) -> str:
    """Statistics of several data sets side by side, as text."""
    rows = [["", *parts]]
    rows.append(["people", *(f"{part['people']}" for part in parts.values())])
    rows.append(["pictures", *(f"{part['pictures']}" for part in parts.values())])
    rows.append(["with all joints", *(f"{part['complete']:.0%}" for part in parts.values())])
    rows.append(["with a head size", *(f"{part['head_sizes']}" for part in parts.values())])
    rows += [[f"box, px, {name}", *(f"{part['box'][name]:.0f}" for part in parts.values())] for name in _QUANTILES]
    rows.append(["labelled / occluded", *("" for _ in parts)])
    for joint in next(iter(parts.values()))["labelled"]:
        shares = (f"{part['labelled'][joint]:.0%} / {part['occluded'][joint]:.0%}" for part in parts.values())
        rows.append([f"  {joint}", *shares])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
