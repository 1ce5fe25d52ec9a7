"""The ten UCI regression tables of the papers: read, cleaned, standardised, and split into inputs and targets.

What is decided per table, since the papers give neither rows nor columns:

- abalone: the eight measured columns; the file at hand has no sex.
- air: hourly sensor averages without date and time. -200 marks a missing value: NMHC(GT), missing in 90 % of the rows, is
  left out, then every row that still misses a value.
- electrical: all fourteen columns, the 0/1 stability flag among them.
- energy: 528 blank rows are left out.
- gas: the five years one after the other.
- naval: the two constant columns say nothing and are dropped; the two identical ones stay.
- parkinson: the training file, without the subject's number; the test file lacks UPDRS and has one class only.
- wine: red and white are two tables; repeated rows stay, so that some held-out rows have a twin among the training rows.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecov.errors import PosecovError

_MISSING_AIR = -200.0
_CONSTANT = 1e-9  # standard deviation over mean size below which a column is constant
INPUT_SHARE = 0.25


@dataclass(frozen=True)
class Table:
    """A standardised table.

    Attributes:
        name: a key of `TABLES`.
        values: (N, C) float64, every column of mean 0 and variance 1 over the whole table.
        dropped: what was left out, in words; empty when nothing was.
    """

    name: str
    values: np.ndarray
    dropped: str = ""

    @property
    def inputs(self) -> int:
        """Columns that are inputs: int(0.25 C), at least one."""
        return max(int(INPUT_SHARE * self.values.shape[1]), 1)

    @property
    def targets(self) -> int:
        """Columns that are targets."""
        return self.values.shape[1] - self.inputs


@dataclass(frozen=True)
class Split:
    """One trial's rows and columns: a permutation of the columns, and of the rows.

    Attributes:
        x: (N, m) inputs to train on.
        y: (N, D) targets to train on.
        held_out_x: (H, m); H may be 0.
        held_out_y: (H, D).
    """

    x: np.ndarray
    y: np.ndarray
    held_out_x: np.ndarray
    held_out_y: np.ndarray


def read_table(root: Path, name: str) -> Table:
    """One standardised table from the folder that holds `uci/`.

    Raises:
        PosecovError: unknown name, or a file is missing or does not read.
    """
    if name not in TABLES:
        raise PosecovError(f"uci: there is no table {name!r}; there are {', '.join(TABLES)}")
    folder = root / "uci"
    if not folder.is_dir():
        raise PosecovError(f"{folder}: not there; --data-root is the folder that holds uci/")
    values, note = TABLES[name](folder)
    scaled, constant = standardise(values, name)
    notes = [note] if note else []
    if constant:
        notes.append(f"{len(constant)} constant columns dropped")
    return Table(name, scaled, "; ".join(notes))


def standardise(values: np.ndarray, name: str) -> tuple[np.ndarray, list[int]]:
    """Columns of mean 0 and variance 1, and the indices of the constant columns that were dropped.

    Args:
        values: (N, C).
        name: for messages.

    Raises:
        PosecovError: a value is not finite, or fewer than two rows or two varying columns.
    """
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise PosecovError(f"uci, {name}: row {row + 1}, column {column + 1} is {values[row, column]}; drop or fill that row")
    if len(values) < 2:
        raise PosecovError(f"uci, {name}: {len(values)} row; a table needs two or more")
    mean, spread = values.mean(axis=0), values.std(axis=0)
    varying = spread > _CONSTANT * np.maximum(np.abs(values).max(axis=0), 1e-300)
    if varying.sum() < 2:
        raise PosecovError(f"uci, {name}: {varying.sum()} columns vary; a table needs two or more")
    scaled = (values[:, varying] - mean[varying]) / spread[varying]
    return scaled, [int(i) for i in np.flatnonzero(~varying)]


def split_table(table: Table, seed: int, held_out: float, rows: int = 0) -> Split:
    """The rows and columns of one trial, drawn from (table, seed): the same for every loss.

    Args:
        table: standardised.
        seed: of the trial.
        held_out: share of the rows that is not trained on, 0 to 1.
        rows: at most so many rows take part, training and held-out together; 0 = all.
    """
    rng = np.random.default_rng([seed, *table.name.encode()])
    columns = rng.permutation(table.values.shape[1])
    order = rng.permutation(len(table.values))[: rows or None]
    inputs, targets = columns[: table.inputs], columns[table.inputs :]
    hidden = round(held_out * len(order))
    train, rest = order[hidden:], order[:hidden]
    return Split(
        *(table.values[np.ix_(part, chosen)] for part in (train, rest) for chosen in (inputs, targets)),
    )


def read_numbers(
    path: Path,
    delimiter: str | None = ",",
    header: bool = True,
    columns: Sequence[int] | None = None,
    encoding: str = "utf-8-sig",
) -> np.ndarray:
    """A text table as float64. Blank rows are left out; a decimal comma is read as a point where the delimiter is another.

    Args:
        path: file.
        delimiter: None = any white space.
        header: skip the first row.
        columns: which to read; None = all.
        encoding: of the file; a byte order mark is skipped.

    Raises:
        PosecovError: names file and row.
    """
    try:
        with path.open(encoding=encoding, newline="") as stream:
            lines: Iterable[list[str]] = (
                csv.reader(stream, delimiter=delimiter) if delimiter else (line.split() for line in stream)
            )
            table = list(lines)[int(header) :]
    except (OSError, UnicodeDecodeError) as error:
        raise PosecovError(f"{path}: cannot be read ({error})") from error
    result: list[list[float]] = []
    for number, cells in enumerate(table, start=1 + int(header)):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            chosen = cells if columns is None else [cells[i] for i in columns]
            row = [float(cell.strip().replace(",", ".")) for cell in chosen]
        except (ValueError, IndexError) as error:
            raise PosecovError(f"{path}: row {number} does not read as numbers ({error})") from error
        if result and len(row) != len(result[0]):
            raise PosecovError(f"{path}: row {number} has {len(row)} columns, the rows before it {len(result[0])}")
        result.append(row)
    if not result:
        raise PosecovError(f"{path}: no rows")
    return np.array(result)


def _abalone(folder: Path) -> tuple[np.ndarray, str]:
    return read_numbers(folder / "abalone" / "abalone.csv", header=False), ""


def _air(folder: Path) -> tuple[np.ndarray, str]:
    with_missing = read_numbers(folder / "air_quality" / "AirQualityUCI.csv", columns=range(2, 15))
    kept = np.delete(with_missing, 2, axis=1)
    complete = (kept != _MISSING_AIR).all(axis=1)
    return kept[complete], f"date, time, NMHC(GT) and {int((~complete).sum())} rows with missing values dropped"


def _concrete(folder: Path) -> tuple[np.ndarray, str]:
    return read_numbers(folder / "concrete" / "Concrete_Data.csv"), ""


def _electrical(folder: Path) -> tuple[np.ndarray, str]:
    return read_numbers(folder / "electrical" / "ElectricalData.csv"), ""


def _energy(folder: Path) -> tuple[np.ndarray, str]:
    return read_numbers(folder / "energy" / "ENB2012_data.csv"), "blank rows dropped"


def _gas(folder: Path) -> tuple[np.ndarray, str]:
    years = [read_numbers(folder / "gas_turbine" / f"gt_{year}.csv") for year in range(2011, 2016)]
    return np.concatenate(years), "five years together"


def _naval(folder: Path) -> tuple[np.ndarray, str]:
    return read_numbers(folder / "condition_naval_propulsion" / "data.txt", delimiter=None, header=False), ""


def _parkinson(folder: Path) -> tuple[np.ndarray, str]:
    values = read_numbers(folder / "parkinson" / "train_data.csv", header=False)
    return values[:, 1:], "training file, without the subject's number"


def _wine(colour: str) -> Callable[[Path], tuple[np.ndarray, str]]:
    def read(folder: Path) -> tuple[np.ndarray, str]:
        return read_numbers(folder / "wine_quality" / f"winequality-{colour}.csv", delimiter=";"), ""

    return read


TABLES: Mapping[str, Callable[[Path], tuple[np.ndarray, str]]] = {
    "abalone": _abalone,
    "air": _air,
    "concrete": _concrete,
    "electrical": _electrical,
    "energy": _energy,
    "gas": _gas,
    "naval": _naval,
    "parkinson": _parkinson,
    "red-wine": _wine("red"),
    "white-wine": _wine("white"),
}
