"""Pictures from files, whatever they are like inside, as the (H, W, 3) uint8 BGR arrays that OpenCV works on."""

import logging
import warnings
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from posecov.errors import PosecovError

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded: one such array already takes 300 MB."""

MAX_BYTES = 500_000_000
"""Of a file; larger ones are not read."""

MIN_SIDE = 8
"""Nothing can be seen in a picture with a shorter side, in pixels."""

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".ppm", ".pgm")
"""What counts as a picture in a folder."""

# Pillow's other readers are rare, slow or run foreign programs (EPS starts Ghostscript).
_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "AVIF", "PPM")
_STRIP = 4_000_000  # Pixels that are converted at once.
_EXIF_ORIENTATION = 0x0112
_TIFF_SIDES = (256, 257)
# Rows and columns exchanged, then upside down, then mirrored.
_FLIPS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_log = logging.getLogger(__name__)


class PictureTooLarge(PosecovError):
    """A picture with more pixels than are allowed."""


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture.

    It is turned as its EXIF orientation says. Grey becomes three equal channels, 16 bits become 8, palettes and CMYK become
    RGB (colour profiles are not applied), transparent parts become white, and of several frames the first counts.

    Args:
        path: JPEG, PNG, BMP, WebP, TIFF, GIF, AVIF (where Pillow has it) or PPM; the content counts, not the name.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        PosecovError: one line that names the file: it is missing, a folder, empty, not a picture, cut short, damaged,
            larger than `MAX_BYTES`, or of a size outside `MIN_SIDE` and `MAX_PIXELS`.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise PosecovError(f"{path}: is a folder; give a picture")
        if not path.exists():
            raise PosecovError(f"{path}: no such file")
        if not path.is_file():
            raise PosecovError(f"{path}: not a regular file; give a picture")
        size = path.stat().st_size
        if size == 0:
            raise PosecovError(f"{path}: the file is empty; give a picture")
        if size > MAX_BYTES:
            raise PosecovError(f"{path}: the file has more than {MAX_BYTES // 10**6} MB; make it smaller")
        # From memory: Pillow asks a file for as many bytes as a damaged one promises, and Python makes room for all of them.
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # A name too long, a null byte in it, no permission for the folder.
        raise PosecovError(f"{path}: cannot be read ({_reason(error)})") from None
    return _read(BytesIO(content), str(path), MAX_PIXELS)


def decode_image(content: bytes | bytearray, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """A picture from memory, as `read_image` reads one from a file.

    Args:
        content: of the file.
        name: what to call it in errors.
        max_pixels: larger pictures are refused before they are decoded.

    Raises:
        PictureTooLarge: it has more pixels.
        PosecovError: as `read_image`.
    """
    if not content:
        raise PosecovError(f"{name}: the file is empty; give a picture")
    return _read(BytesIO(content), name, max_pixels)


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as `read_image` returns it, from its header alone. Raises PosecovError as that does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _open(path, str(path), MAX_PIXELS) as image:
            width, height = image.size
            if isinstance(image, TiffImageFile):  # Pillow turns these itself, and may have exchanged their sides already.
                width, height = (int(image.tag_v2[tag]) for tag in _TIFF_SIDES)
            # From 5 on, orientations lie on their side.
            return (height, width) if _orientation(image, str(path)) >= 5 else (width, height)


def pixels_of(image: Any) -> np.ndarray:
    """A picture as an array: (H, W, 3) uint8, BGR, as it is, or read from a path (`read_image`).

    Raises:
        PosecovError: it is neither.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if not isinstance(image, np.ndarray):
        raise PosecovError(f"a picture must be a path or a NumPy array, not {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        hint = "; cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) makes one of a grey picture" if image.ndim == 2 else ""
        raise PosecovError(f"a picture must be (H, W, 3) uint8 in BGR order, not {image.shape} {image.dtype}{hint}")
    return np.ascontiguousarray(image)  # OpenCV takes no reversed channels or mirrored views.


def list_images(paths: Iterable[str | Path], recursive: bool = False) -> list[Path]:
    """Picture files: a folder stands for the pictures in it, sorted by name; other paths are taken as they are.

    Args:
        paths: files and folders.
        recursive: also look into the folders of a folder.

    Raises:
        PosecovError: a folder without pictures.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        try:
            if not path.is_dir():
                found.append(path)
                continue
            entries = sorted(path.rglob("*") if recursive else path.iterdir())
        except OSError as error:
            raise PosecovError(f"{path}: cannot be read ({_reason(error)})") from None
        # Hidden files are left out: macOS writes a ._photo.jpg, which is no picture, beside a photo.jpg.
        pictures = [p for p in entries if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".") and p.is_file()]
        if not pictures:
            raise PosecovError(f"{path}: no pictures in this folder (looked for {' '.join(EXTENSIONS)})")
        found.extend(pictures)
    return found


def _read(source: BytesIO, name: str, max_pixels: int) -> np.ndarray:
    # Pillow warns of broken EXIF, which does not matter here, and of large pictures, for which there is the limit.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _open(source, name, max_pixels) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise _too_large(name, max_pixels)
            if min(width, height) < MIN_SIDE:
                raise PosecovError(f"{name}: {width} x {height} pixels is too small; a side must have at least {MIN_SIDE}")
            return _decode(name, image)


def _open(source: Path | BytesIO, name: str, max_pixels: int) -> Image.Image:
    Image.init()
    try:
        return Image.open(source, formats=[kind for kind in _FORMATS if kind in Image.OPEN])
    except Image.DecompressionBombError:
        raise _too_large(name, max_pixels) from None
    except UnidentifiedImageError:
        raise PosecovError(f"{name}: not a picture that can be read (JPEG, PNG, BMP, WebP, TIFF, GIF can)") from None
    except Exception as error:  # Broken headers raise whatever Pillow's parsers stumble over.
        _log.debug("%s", name, exc_info=True)
        raise PosecovError(f"{name}: cannot be read as a picture ({_reason(error)})") from None


def _decode(name: str, image: Image.Image) -> np.ndarray:
    try:
        image.load()
    except Exception as error:  # As in _open; a file cut short is OSError, SyntaxError, EOFError, ValueError, by format.
        _log.debug("%s", name, exc_info=True)
        raise PosecovError(f"{name}: the picture is cut short or damaged ({_reason(error)}); get it again") from None
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        # Numbers without a known white: measurements rather than a picture.
        raise PosecovError(f"{name}: its pixels are 32-bit numbers; save it with 8 or 16 bits")
    # Strip by strip: converted as a whole, a large picture would be in memory five times.
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    rows = max(1, _STRIP // image.width)
    try:
        for top in range(0, image.height, rows):
            strip = image if rows >= image.height else image.crop((0, top, image.width, min(top + rows, image.height)))
            pixels[top : top + rows] = _bgr(strip)
    except Exception as error:  # More transparent colours than a palette has, for example.
        _log.debug("%s", name, exc_info=True)
        raise PosecovError(f"{name}: the picture is damaged ({_reason(error)}); get it again") from None
    orientation = _orientation(image, name)
    image.close()
    return _turned(pixels, orientation)


def _bgr(image: Image.Image) -> np.ndarray:
    """(H, W, 3) of a decoded picture."""
    if image.mode.startswith("I"):
        # 16-bit grey; older versions of Pillow open such PNGs as 32-bit integers.
        grey = np.clip(np.round(np.asarray(image, dtype=np.float64) / 257), 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return cv2.cvtColor(np.asarray(image if image.mode == "RGB" else image.convert("RGB")), cv2.COLOR_RGB2BGR)


def _orientation(image: Image.Image, name: str) -> int:
    """EXIF's, 1 to 8; 1 is upright."""
    try:
        found = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # Cameras and editors write broken EXIF; the picture itself is whole.
        _log.debug("%s: EXIF cannot be read, orientation ignored", name, exc_info=True)
        return 1
    return found if found in _FLIPS else 1


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A picture as its EXIF orientation wants it shown."""
    swap, vertical, horizontal = _FLIPS[orientation]
    turned = pixels.transpose(1, 0, 2) if swap else pixels
    return np.ascontiguousarray(turned[:: -1 if vertical else 1, :: -1 if horizontal else 1])


def _too_large(name: str, max_pixels: int) -> PictureTooLarge:
    return PictureTooLarge(f"{name}: the picture has more than {max_pixels / 1e6:g} megapixels; make it smaller")


def _reason(error: Exception) -> str:
    """The first line of an exception, without the path that Python's own repeat."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]
