"""A .npy file that grows row by row. Written with ordinary writes: pages of a memory map would count as memory in use."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from posecov.errors import PosecovError


class RowFile:
    """Appends rows to a .npy file whose header promises all of them; until they are there, NumPy refuses to load it.

    Args:
        path: the file. What it already holds is kept, if its header is the same.
        shape: of the finished array.
        dtype: of its entries.

    Attributes:
        rows: whole rows in the file.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: DTypeLike):
        self.dtype = np.dtype(dtype)
        header = io.BytesIO()
        description = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, description)
        self._start = len(header.getvalue())
        self._row = int(np.prod(shape[1:])) * self.dtype.itemsize
        self._file = path.open("r+b" if path.exists() else "w+b")
        self.rows = 0
        if self._file.read(self._start) == header.getvalue():
            self.rows = (self._file.seek(0, io.SEEK_END) - self._start) // self._row
        else:
            self._file.seek(0)
            self._file.write(header.getvalue())
        self.cut(self.rows)

    def cut(self, rows: int) -> None:
        """Keep the first rows only."""
        self.rows = rows
        self._file.truncate(self._start + rows * self._row)
        self._file.seek(0, io.SEEK_END)

    def append(self, rows: np.ndarray) -> None:
        """Add rows, in the file's own type."""
        self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).tobytes())
        self.rows += len(rows)

    @staticmethod
    def align(*files: "RowFile") -> int:
        """Cut files that grow together to the rows that all of them have, and say how many these are."""
        rows = min(file.rows for file in files)
        for file in files:
            file.cut(rows)
        return rows

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_rows(path: Path, start: int, stop: int) -> np.ndarray:
    """Rows of a finished .npy file, copied, so that the map does not stay in memory."""
    return np.array(map_rows(path)[start:stop])


def map_rows(path: Path) -> np.ndarray:
    """A finished .npy file, mapped into memory, read only. Raises PosecovError when it is none, such as a pickle."""
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        table = None
    if not isinstance(table, np.ndarray):
        raise PosecovError(f"{path}: not a table of numbers, or a damaged one; remove its folder, it will be made again")
    return table
