"""Results of a film as JSON Lines: a header with what all frames share, then one line a frame, each written at once.

    {"format": "posecov-frames-1", "source": "walk.mp4", "skeleton": {...}, "degrees_of_freedom": 6.1, "smooth": "offline", ...}
    {"frame": 0, "time": 0.0, "people": [{"id": 1, "box": [x, y, width, height], "keypoints": [[x, y], ...],
        "sigma": [...], "covariance": [...], "measured": {"box": ..., "keypoints": ..., "sigma": ..., "covariance": ...}}]}

Keypoints are in the skeleton's order, pixels of the upright frame. A covariance is its lower triangle row by row
(``numpy.tril_indices``), in the order x0 y0 x1 y1 ..., pixels^2. A line that was cut off by a crash does not count.

Where poses are smoothed, the header's ``smooth`` says how (``live``, ``offline``; absent where they are not), and ``measured``
is the pose as estimated in that frame, or null where the person was not seen.
"""

import contextlib
import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecov.components import components_to_plain, plain
from posecov.errors import PosecovError
from posecov.exchanges import coordinate_orders
from posecov.files import reason
from posecov.metadata import ModelMetadata
from posecov.pose import Pose
from posecov.video.frames import Followed

FORMAT = "posecov-frames-1"

Header = dict[str, Any]


@dataclass(frozen=True, eq=False)
class FrameResult:
    """One line: what was found in a frame.

    Attributes:
        frame: its number, from 0.
        time: seconds since the first frame.
        people: who is there.
        damaged: whether the decoder had to make up a part of the frame.
    """

    frame: int
    time: float
    people: list[Followed]
    damaged: bool = False


def make_header(source: str, width: int, height: int, metadata: ModelMetadata, model: Path, smooth: str = "none") -> Header:
    """What all frames of a film share.

    Args:
        source: name of the film.
        width: of its upright frames in pixels.
        height: of its upright frames in pixels.
        metadata: of the model.
        model: its file, whose checksum tells models of one name apart.
        smooth: ``none``, ``live`` or ``offline``.
    """
    nu = metadata.degrees_of_freedom
    fields: Header = {
        "format": FORMAT,
        "source": source,
        "width": width,
        "height": height,
        "model": metadata.name,
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "skeleton": metadata.skeleton.to_dict(),
        "degrees_of_freedom": None if math.isinf(nu) else nu,
    }
    if smooth != "none":
        fields["smooth"] = smooth
    if metadata.exchanges:
        fields["permutations"] = (coordinate_orders(metadata.exchanges)[:, ::2] // 2).tolist()
    return json.loads(json.dumps(fields))  # As it is read back: lists for tuples.


def frame_line(result: FrameResult, header: Header) -> dict[str, Any]:
    """The line of a frame."""
    fields = {"frame": result.frame, "time": result.time} | ({"damaged": True} if result.damaged else {})
    return fields | {"people": [_person(person, header) for person in result.people]}


def compact(pose: Pose, header: Header) -> dict[str, Any]:
    """`Pose.to_dict` without what the header says, and without the upper triangle of symmetric matrices."""
    nu = None if math.isinf(pose.degrees_of_freedom) else pose.degrees_of_freedom
    short: dict[str, Any] = {
        "box": None if pose.box is None else plain(pose.box),
        "keypoints": plain(pose.keypoints),
        "sigma": plain(pose.sigma),
        "covariance": plain(_lower(pose.covariance)),
    }
    if nu != header["degrees_of_freedom"]:
        short["degrees_of_freedom"] = nu
    if pose.known:
        short["known"] = list(pose.known)
    parts = pose.components
    if parts is None:
        return short
    if parts.orders is not None and (parts.orders[:, ::2] // 2).tolist() == header.get("permutations"):
        several = {"weights": parts.weights.tolist(), "scatter": plain(_lower(parts.scatter[0]))}
        return short | {"components": several}
    return short | {"components": components_to_plain(parts)}


def expanded(fields: Mapping[str, Any], header: Header) -> Pose:
    """The inverse of `compact`, bit for bit. Raises PosecovError when something is missing or wrong."""
    try:
        names = header["skeleton"]["keypoints"]
        full = {"degrees_of_freedom": header["degrees_of_freedom"], **fields, "skeleton": header["skeleton"]}
        full["keypoints"] = {name: {"x": x, "y": y} for name, (x, y) in zip(names, fields["keypoints"], strict=True)}
        full["covariance"] = _symmetric(fields["covariance"])
        several = fields.get("components")
        if several is not None and "permutations" not in several and "means" not in several:
            scatter = _symmetric(several["scatter"])
            full["components"] = {**several, "scatter": scatter, "permutations": header["permutations"]}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PosecovError(f"this is not a person of {FORMAT}: {type(error).__name__} {error}") from None
    return Pose.from_dict(full)


def read_results(path: str | Path) -> tuple[Header, Iterator[FrameResult]]:
    """Read results, also unfinished ones.

    Returns:
        The header, and an iterator over the frames, which reads as it goes.

    Raises:
        PosecovError: the file cannot be read, or is not such a file.
    """
    path = Path(path)
    lines = _whole_lines(path)
    header = next(lines, (None, 0))[0]
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise PosecovError(f"{path}: not the results of a film ({FORMAT})")

    def frames() -> Iterator[FrameResult]:
        for number, (fields, _) in enumerate(lines):
            try:
                if fields["frame"] != number:
                    raise PosecovError(f"line {number + 2} is of frame {fields['frame']}, not {number}")
                people = [_followed(person, header) for person in fields["people"]]
                yield FrameResult(number, float(fields["time"]), people, bool(fields.get("damaged", False)))
            except (KeyError, TypeError, ValueError, OverflowError, PosecovError) as error:
                raise PosecovError(f"{path}: damaged at line {number + 2} ({error})") from None

    return header, frames()


def people_in(path: Path) -> tuple[list[int], int]:
    """The numbers of all people in results, and how many frames there are. Raises PosecovError as `read_results`."""
    read_results(path)
    ids: set[int] = set()
    count = 0
    for fields, _ in itertools.islice(_whole_lines(path), 1, None):
        count += 1
        try:
            ids.update(int(person["id"]) for person in fields["people"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise PosecovError(f"{path}: damaged at line {count + 1} ({type(error).__name__} {error})") from None
    return sorted(ids), count


class ResultsWriter:
    """Writes results, each line in the system's hands before the next frame.

    Attributes:
        path: of the file.
        count: frames in it.
    """

    def __init__(self, path: Path, header: Header, resume: bool = False):
        """Open a file.

        Args:
            path: of the file.
            header: its first line.
            resume: go on after the last whole line, when the file is there; else it is replaced.

        Raises:
            PosecovError: it cannot be written, or is of another film or model.
        """
        self.path, self.count, self._header = path, 0, header
        try:
            if resume and path.exists() and (lines := list(_line_ends(path))):
                if lines[0][0] != header:
                    raise PosecovError(f"{path}: is of another film or model; leave --resume out to begin anew")
                self.count = len(lines) - 1
                os.truncate(path, lines[-1][1])
                self._file = path.open("ab")
            else:
                self._file = path.open("wb")
                self._line(header)
        except OSError as error:
            raise self._refused(error) from None

    def write(self, result: FrameResult) -> None:
        """Add a frame. Raises PosecovError when the disk is full."""
        try:
            self._line(frame_line(result, self._header))
        except OSError as error:
            raise self._refused(error) from None
        self.count += 1

    def close(self) -> None:
        """Close the file; what is written is safe already."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _line(self, fields: Mapping[str, Any]) -> None:
        self._file.write((json.dumps(fields, allow_nan=False, separators=(",", ":")) + "\n").encode())
        self._file.flush()

    def _refused(self, error: OSError) -> PosecovError:
        return PosecovError(f"{self.path}: cannot be written ({reason(error)}); free some space or give another --out")


def _person(person: Followed, header: Header) -> dict[str, Any]:
    fields = {"id": person.id} | compact(person.pose, header)
    if person.measured is person.pose:
        return fields
    return fields | {"measured": None if person.measured is None else compact(person.measured, header)}


def _followed(fields: Mapping[str, Any], header: Header) -> Followed:
    if not isinstance(fields, Mapping):
        raise PosecovError(f"this is not a person of {FORMAT}")
    pose = expanded({name: value for name, value in fields.items() if name != "measured"}, header)
    measured = fields.get("measured", fields)
    measured = pose if measured is fields else None if measured is None else expanded(measured, header)
    return Followed(int(fields["id"]), pose, measured)


def _whole_lines(path: Path) -> Iterator[tuple[Any, int]]:
    """Every line that is whole, and where it ends in the file."""
    end = 0
    try:
        with path.open("rb") as file:
            for line in file:
                end += len(line)
                try:
                    fields = json.loads(line) if line.endswith(b"\n") else None
                except (ValueError, RecursionError):
                    fields = None
                if fields is None:
                    return
                yield fields, end
    except OSError as error:
        raise PosecovError(f"{path}: cannot be read ({reason(error)})") from None


def _line_ends(path: Path) -> Iterator[tuple[Any, int]]:
    """The header, and of the other lines only where they end: a long film's poses need not be in memory."""
    for number, (fields, end) in enumerate(_whole_lines(path)):
        yield (fields if number == 0 else None), end


def _lower(matrix: np.ndarray) -> np.ndarray:
    return matrix[np.tril_indices(len(matrix))]


def _symmetric(lower: Any) -> np.ndarray:
    numbers = np.array(lower, dtype=np.float64)
    side = int((math.isqrt(8 * numbers.size + 1) - 1) // 2)
    matrix = np.zeros((side, side))
    rows, columns = np.tril_indices(side)
    matrix[rows, columns] = numbers  # ValueError when the count is that of no triangle.
    matrix[columns, rows] = numbers
    return matrix
