"""Numbers and YAML as they come in files that anybody may have written."""

import math
from pathlib import Path
from typing import Any

import yaml

from posecov.errors import PosecovError
from posecov.files import reason

MAX_YAML = 1_000_000
"""Bytes of a YAML file at most: recipes and skeletons have some thousand."""


def is_number(value: Any) -> bool:
    """Whether this is an int or a float that is finite as a float. JSON's true is an int to Python, but no number."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # An int beyond all floats.
        return False


def is_file_name(name: str) -> bool:
    """Whether a name leads into no other folder when a file or folder is called so, on any system."""
    return name.isprintable() and name.strip() not in ("", ".", "..") and not set(name) & set("/\\:") and len(name) <= 200


def read_yaml(path: Path, what: str) -> Any:
    """The plain values of a YAML file: no tags of other types, no aliases, which can grow beyond any memory.

    Args:
        path: the file.
        what: it should be, for errors.

    Raises:
        PosecovError: it cannot be read, or is not YAML of this kind.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_YAML + 1)
    except (OSError, ValueError) as error:
        raise PosecovError(f"{path}: cannot read this {what} ({reason(error)})") from None
    if len(content) > MAX_YAML:
        raise PosecovError(f"{path}: cannot read this {what} (it is larger than {MAX_YAML // 1000} kB)")
    try:
        return yaml.load(content.decode("utf-8"), Loader=_Loader)
    except UnicodeDecodeError:
        raise PosecovError(f"{path}: cannot read this {what} (not a text file)") from None
    except Exception as error:  # PyYAML's constructors of dates, numbers and binaries raise what they stumble over.
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise PosecovError(f"{path}: cannot read this {what}, which is not YAML ({why})") from None


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*) are not read here", self.peek_event().start_mark)
        return super().compose_node(parent, index)
