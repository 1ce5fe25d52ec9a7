"""Joints whose places are known, from the command line or a file: JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posecov.boxes import matching_name, plain_name
from posecov.errors import PosecovError
from posecov.files import reason
from posecov.plain import is_number

_FORMS = (
    '{"joint": [x, y], ...} for one picture, {"a.jpg": {"joint": [x, y]}}, or a list of these for the people in the order of '
    "their boxes"
)

Person = dict[str, tuple[float, float]]
"""Places (x, y), pixels, by name of the joint."""


@dataclass(frozen=True)
class Fixes:
    """Known joints of the people in pictures.

    Attributes:
        source: what to call it in errors.
        by_picture: for each picture that is named, its people's; None names the only picture.
    """

    source: str
    by_picture: dict[str | None, list[Person]]

    def of(self, picture: Path) -> list[Person]:
        """Those of a picture, an empty list when it is not named."""
        if None in self.by_picture:
            return self.by_picture[None]
        return self.by_picture.get(matching_name(self.by_picture, picture), [])

    @property
    def joints(self) -> list[str]:
        """Every name that occurs."""
        return [joint for people in self.by_picture.values() for person in people for joint in person]

    def check(self, pictures: Sequence[Path]) -> None:
        """Raises PosecovError when something is fixed in a picture that is not among these, or it is not clear in which."""
        if None in self.by_picture:
            if len(pictures) > 1:
                raise PosecovError(f"{self.source}: names joints but no picture, and there are {len(pictures)}; {_FORMS}")
            return
        found = {matching_name(self.by_picture, picture) for picture in pictures}
        for name in self.by_picture:
            if name not in found:
                raise PosecovError(f"{self.source}: {name} is not among the pictures")


def read_fixes(text_or_path: str) -> Fixes:
    """Known joints from JSON text, or from a file of it.

    Raises:
        PosecovError: one line that says what is wrong.
    """
    text, source = text_or_path, "--fix"
    if not text.lstrip().startswith(("{", "[")):
        source = text_or_path
        try:
            text = Path(text_or_path).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise PosecovError(f"{source}: cannot read these joints ({reason(error)}); give a file or JSON, {_FORMS}") from None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PosecovError(f"{source}: is not valid JSON ({error}); it is {_FORMS}") from None
    if isinstance(content, list) or (isinstance(content, Mapping) and any(_is_place(value) for value in content.values())):
        return Fixes(source, {None: _people(content, source, "")})
    if not isinstance(content, Mapping) or not content:
        raise PosecovError(f"{source}: it is {_FORMS}")
    return Fixes(source, {plain_name(name): _people(people, source, f" of {name}") for name, people in content.items()})


def _people(content: Any, source: str, where: str) -> list[Person]:
    rows = content if isinstance(content, list) else [content]
    people = []
    for row in rows:
        if not isinstance(row, Mapping):
            raise PosecovError(f"{source}: the joints{where} are no mapping of name to [x, y]")
        for joint, place in row.items():
            if not _is_place(place):
                raise PosecovError(f"{source}: the place of {joint}{where} is not two numbers [x, y]")
        people.append({str(joint): (float(place[0]), float(place[1])) for joint, place in row.items()})
    return people


def _is_place(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(is_number(number) for number in value)
