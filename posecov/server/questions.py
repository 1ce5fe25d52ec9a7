"""What a client asks about its picture, and the answer to it."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import orjson

from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.images import PictureTooLarge, decode_image
from posecov.output import picture_document
from posecov.server.limits import Limits
from posecov.server.refusals import Refused

_MASS = 0.95
_WIDEST = 100  # Longer side of a box over that of its picture, at most.
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """What to find in a picture.

    Attributes:
        boxes: (N, 4) x, y, width, height in pixels, or None to search for one person.
        mass: of the ellipses.
    """

    boxes: np.ndarray | None = None
    mass: float = _MASS

    @classmethod
    def from_fields(cls, fields: Mapping[str, str], limits: Limits) -> "Question":
        """Read the texts of ``boxes`` and ``mass``. Raises Refused: 400 they are no such thing, 422 too many boxes."""
        boxes, mass = None, _MASS
        if "boxes" in fields:
            boxes = _boxes(fields["boxes"], limits.max_boxes)
        if "mass" in fields:
            try:
                mass = float(fields["mass"])
            except ValueError:
                mass = np.nan
            if not 0 < mass < 1:
                raise Refused(400, f"mass must be a number between 0 and 1, not {fields['mass'][:40]!r}")
        return cls(boxes, mass)


def answer(
    estimator: PoseEstimator, name: str, content: bytes | bytearray, question: Question, limits: Limits
) -> tuple[bytes, int]:
    """The JSON document of a picture as ``posecov image`` writes it, and how many people are in it.

    Args:
        estimator: the pose network.
        name: of the picture.
        content: of its file.
        question: what to find.
        limits: of its size.

    Raises:
        Refused: 413 too many pixels, 415 not a picture, 422 a box that cannot be used, 500 the model fails.
    """
    try:
        image = decode_image(content, name, limits.max_pixels)
    except PictureTooLarge as error:
        raise Refused(413, str(error)) from None
    except PosecovError as error:
        raise Refused(415, str(error)) from None
    height, width = image.shape[:2]
    if question.boxes is not None:
        _check_boxes(question.boxes, width, height)
    try:
        people = estimator(image, question.boxes)
        document = picture_document(name, width, height, estimator.metadata.name, question.mass, people)
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE), len(people)
    except PosecovError as error:
        _log.error("%s", error)
        raise Refused(500, "the model fails on this picture; the server's log says why") from None


def _boxes(text: str, most: int) -> np.ndarray:
    try:
        boxes = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused(400, f"boxes must be JSON, [[x, y, width, height], ...], not {text[:40]!r}") from None
    if not isinstance(boxes, list):
        raise Refused(400, "boxes must be a list, [[x, y, width, height], ...]")
    if len(boxes) > most:
        raise Refused(422, f"{len(boxes)} boxes are too many; send at most {most} a request")
    for index, box in enumerate(boxes):
        # type, not isinstance: JSON's true is an int to Python.
        if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
            raise Refused(400, f"box {index} is not four numbers x, y, width, height")
    try:
        return np.array(boxes, dtype=np.float64).reshape(-1, 4)
    except OverflowError:
        raise Refused(422, "a box has a number that is too large") from None


def _check_boxes(boxes: np.ndarray, width: int, height: int) -> None:
    most = _WIDEST * max(width, height)
    for index, (x, y, across, down) in enumerate(boxes.tolist()):
        # Written so that it refuses what is no number.
        if not (1 <= across <= most and 1 <= down <= most):
            raise Refused(422, f"box {index} is {across:g} x {down:g} pixels; both must lie between 1 and {most}")
        if not (x < width and y < height and x + across > 0 and y + down > 0):
            raise Refused(422, f"box {index} lies outside the picture, which has {width} x {height} pixels")
