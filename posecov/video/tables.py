"""Other forms of a film's results, made from its JSON Lines: CSV as DeepLabCut writes it, COCO keypoint results, NPZ.

Where these forms ask for a likelihood or score they get a probability that means something: that the joint lies within a
stated radius of where it is said to be.
"""

import csv
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from posecov.errors import PosecovError
from posecov.files import reason, write_atomic
from posecov.video.results import Header, people_in, read_results

RADIUS = 0.02
"""Radius of the probabilities as a share of the frame's shorter side, where none is given."""


def radius_of(header: Header, radius: float | None) -> float:
    """The radius in pixels: what was asked, or `RADIUS` of the shorter side in whole pixels, at least 1."""
    return float(max(1, round(RADIUS * min(header["width"], header["height"])))) if radius is None else radius


def write_csv(results: Path, target: Path, radius: float | None = None) -> None:
    """A table with DeepLabCut's header rows: scorer, (individuals,) bodyparts, coords; one row a frame.

    The scorer names the model and the radius (``..._within_20px``); likelihood is the probability that the joint lies within
    it. Films with one person have no row of individuals. Cells of people who are not there are empty.

    Args:
        results: the JSON Lines.
        target: the table.
        radius: in pixels; see `radius_of`.

    Raises:
        PosecovError: the results cannot be read, or the table not be written.
    """
    header, frames = read_results(results)
    within, names = radius_of(header, radius), header["skeleton"]["keypoints"]
    ids, _ = people_in(results)
    scorer = f"{header['model']}_within_{within:g}px"
    columns = [(f"person{i}", name, coordinate) for i in ids for name in names for coordinate in ("x", "y", "likelihood")]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scorer", *(scorer for _ in columns)])
    for level, title in enumerate(("individuals", "bodyparts", "coords")):
        if level > 0 or len(ids) > 1:
            writer.writerow([title, *(column[level] for column in columns)])
    for result in frames:
        cells: dict[int, list[str]] = {}
        for person in result.people:
            likelihood = [person.pose.probability_within(name, within) for name in names]
            rows = np.column_stack([person.pose.keypoints, likelihood])
            cells[person.id] = [f"{number:.7g}" for number in rows.reshape(-1)]
        writer.writerow([result.frame, *(cell for i in ids for cell in cells.get(i, [""] * (3 * len(names))))])
    write_atomic(target, text.getvalue().encode())


def write_coco(results: Path, target: Path, radius: float | None = None) -> None:
    """COCO keypoint results: a list with one entry a person and frame.

    ``image_id`` is the frame's number and ``track_id`` the person's; ``keypoints`` are x, y and the probability that the joint
    lies within the radius, in the order of the model's skeleton, and ``score`` is their mean: the share of joints expected
    within it. ``box`` is COCO's ``bbox``. Arguments and errors as for `write_csv`.
    """
    header, frames = read_results(results)
    within, names = radius_of(header, radius), header["skeleton"]["keypoints"]
    entries = []
    for result in frames:
        for person in result.people:
            likelihood = np.array([person.pose.probability_within(name, within) for name in names])
            rows = np.column_stack([person.pose.keypoints, likelihood]).round(4)
            entry = {"image_id": result.frame, "category_id": 1, "track_id": person.id, "keypoints": rows.reshape(-1).tolist()}
            if person.pose.box is not None:
                entry["bbox"] = person.pose.box.round(3).tolist()
            entries.append(entry | {"score": round(float(likelihood.mean()), 6)})
    write_atomic(target, (json.dumps(entries, allow_nan=False) + "\n").encode())


def write_npz(results: Path, target: Path, radius: float | None = None) -> None:
    """Arrays over F frames and P people; NaN where a person is not there.

    ``time`` (F,) seconds, ``id`` (P,), ``keypoints`` (F, P, J, 2) float32 pixels, ``covariance`` (F, P, 2J, 2J) float32
    pixels^2, ``degrees_of_freedom`` (F, P), ``names`` (J,), ``limbs`` (L, 2) indices. They are built on the disk: a long film
    does not fit into memory. Arguments and errors as for `write_csv`; the radius does not matter.
    """
    header, frames = read_results(results)
    skeleton = header["skeleton"]
    (ids, count), names = people_in(results), skeleton["keypoints"]
    joints, people = len(names), len(ids)
    column = {identity: index for index, identity in enumerate(ids)}
    limbs = [[names.index(joint) for joint in limb] for limb in skeleton.get("limbs", ())]
    small = {"id": np.array(ids, dtype=np.int64), "names": np.array(names), "limbs": np.array(limbs).reshape(-1, 2)}
    shapes = {"time": (), "keypoints": (people, joints, 2), "covariance": (people, 2 * joints, 2 * joints)}
    kinds = {"time": np.float64, "degrees_of_freedom": np.float64}
    try:
        with tempfile.TemporaryDirectory(prefix=".posecov-", dir=target.parent) as folder:
            arrays: dict[str, np.ndarray] = {}
            for name, shape in (shapes | {"degrees_of_freedom": (people,)}).items():
                full, place = (count, *shape), Path(folder) / f"{name}.npy"
                kind = kinds.get(name, np.float32)
                # A file of no bytes cannot be mapped.
                arrays[name] = (
                    np.lib.format.open_memmap(place, "w+", kind, full) if np.prod(full) else np.empty(full, dtype=kind)
                )
            for result in frames:
                at = result.frame
                arrays["time"][at] = result.time
                for name in ("keypoints", "covariance", "degrees_of_freedom"):
                    arrays[name][at] = np.nan
                for person in result.people:
                    where = (at, column[person.id])
                    arrays["keypoints"][where] = person.pose.keypoints
                    arrays["covariance"][where] = person.pose.covariance
                    arrays["degrees_of_freedom"][where] = person.pose.degrees_of_freedom
            whole = Path(folder) / target.name
            with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for name, array in (arrays | small).items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                        np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
            arrays.clear()
            whole.replace(target)
    except OSError as error:
        raise PosecovError(f"{target}: cannot be written ({reason(error)}); free some space or give another --out") from None


Table = Callable[[Path, Path, float | None], None]

TABLES: Mapping[str, tuple[str, Table]] = {
    "csv": (".csv", write_csv),
    "coco": (".coco.json", write_coco),
    "npz": (".npz", write_npz),
}
"""Ending and writer of each form."""
