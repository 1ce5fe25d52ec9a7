"""Where the files that ship with the package are: in the wheel, or in the repository beside it."""

from pathlib import Path

from posecov.errors import PosecovError

_PACKAGE = Path(__file__).resolve().parent
_PLACES = (_PACKAGE / "_resources", _PACKAGE.parent)


def find(name: str) -> Path:
    """Path of a shipped file, such as ``configs/skeletons/lsp14.yaml`` or ``weights/posecov-lsp14-small.onnx``.

    Raises:
        PosecovError: no such file ships.
    """
    for place in _PLACES:
        if (place / name).exists():
            return place / name
    raise PosecovError(f"{name}: not among the files that ship with posecov; reinstall posecov or give a path")
