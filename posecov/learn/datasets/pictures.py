"""Pictures that an annotation file names: inside their folder, there, and of a known size."""

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from posecov.errors import PosecovError
from posecov.files import reason
from posecov.images import upright_size
from posecov.learn.datasets.problems import Problems


class Pictures:
    """The pictures of one data set.

    Args:
        folder: that holds them; no name of an annotation file leads out of it.
        problems: where missing ones are noted, each of them once.
    """

    def __init__(self, folder: Path, problems: Problems):
        self.folder, self._problems = folder, problems
        self._root = folder.resolve()
        self._found: dict[str, Path | None] = {}
        self._sizes: dict[Path, tuple[int, int] | None] = {}

    def find(self, name: Any, where: str) -> Path | None:
        """Path of a picture by its name in the file; None, with the problem noted, when there is no such picture."""
        key = str(name)
        if key not in self._found:
            self._found[key], wrong = self._locate(name)
            if wrong:
                self._problems.add(where, wrong)
        return self._found[key]

    def size(self, path: Path, where: str) -> tuple[int, int] | None:
        """Width and height as `images.read_image` returns the picture; None, with the problem noted, when it is not one."""
        if path not in self._sizes:
            self._sizes[path] = picture_size(path)
            if self._sizes[path] is None:
                self._problems.add(where, f"picture {path} cannot be read")
        return self._sizes[path]

    def _locate(self, name: Any) -> tuple[Path | None, str]:
        if not isinstance(name, str) or not name or "\0" in name:
            return None, f"{name!r} is not the name of a picture"
        relative = PurePosixPath(name.replace("\\", "/"))
        if relative.is_absolute() or PureWindowsPath(name).drive or ".." in relative.parts:
            return None, f"picture {name!r} leads out of {self.folder}; name it relative to that folder"
        path = self.folder / relative
        try:
            if not path.is_file():
                return None, f"picture {path} is missing"
        except OSError as error:  # A name too long, no permission for the folder.
            return None, f"picture {path} cannot be read ({reason(error)})"
        if not path.resolve().is_relative_to(self._root):
            return None, f"picture {path} is a link out of {self.folder}; put the picture itself there"
        return path, ""


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture, turned as its EXIF orientation says, from its header; None when it is not a picture."""
    try:
        return upright_size(path)
    except PosecovError:
        return None


def picture_folder(annotations: Path) -> Path:
    """Where the pictures of an annotation file usually are: in ``images`` beside it (or beside its folder, if that is called
    ``annot`` or ``annotations``), else in its own folder."""
    beside = annotations.parent
    places = [beside / "images"] + ([beside.parent / "images"] if beside.name in ("annot", "annotations") else [])
    return next((folder for folder in places if folder.is_dir()), beside)
