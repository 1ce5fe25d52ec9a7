"""The UCI tables: reading, cleaning, standardising and splitting, on drawn files."""

import os
from pathlib import Path

import numpy as np
import pytest

from posecov.errors import PosecovError
from posecov.learn.experiments.uci_tables import TABLES, Table, read_numbers, read_table, split_table, standardise

REAL_DATA = os.environ.get("POSECOV_DATA", "")


def folder_of(root: Path, name: str, file: str, text: str) -> Path:
    """A data root with one file of one table."""
    path = root / "uci" / name / file
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8-sig")
    return root


def test_every_column_has_variance_one_and_constant_ones_are_dropped():
    values = np.column_stack([np.arange(6.0), np.full(6, 0.998), 7.0 - np.arange(6.0), np.arange(6.0) ** 2])
    scaled, constant = standardise(values, "toy")
    assert constant == [1]
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(scaled.var(axis=0), 1.0)


def test_identical_columns_stay():
    column = np.arange(5.0)
    assert standardise(np.column_stack([column, column, column**2]), "toy")[0].shape == (5, 3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[1.0, np.nan], [2.0, 3.0]], "row 1, column 2 is nan"),
        ([[1.0, 2.0]], "1 row"),
        ([[1.0, 2.0], [1.0, 3.0]], "1 columns vary"),
    ],
)
def test_a_table_that_cannot_be_standardised_says_why(values, words):
    with pytest.raises(PosecovError, match=f"toy.*{words}"):
        standardise(np.array(values), "toy")


def test_blank_rows_are_left_out(tmp_path):
    root = folder_of(tmp_path, "energy", "ENB2012_data.csv", "a,b,c\n1,2,3\n,,\n2,5,1\n3,1,9\n,,\n")
    table = read_table(root, "energy")
    assert table.values.shape == (3, 3)
    assert table.dropped == "blank rows dropped"


def test_air_leaves_out_what_is_missing_and_reads_decimal_commas(tmp_path):
    names = ",".join(["Date", "Time", *"abcdefghijklm"])
    rows = [["d", "t", *(str(10 * i + j * j % (i + 2)) for j in range(13))] for i in range(6)]
    rows[1][4] = "-200"  # in NMHC(GT), which is dropped: the row stays
    rows[2][5] = "-200"
    rows[3][2] = '"31,5"'
    root = folder_of(tmp_path, "air_quality", "AirQualityUCI.csv", names + "\n" + "\n".join(",".join(r) for r in rows) + "\n")
    table = read_table(root, "air")
    assert table.values.shape[0] == 5
    assert "NMHC(GT) and 1 rows with missing values dropped" in table.dropped
    first = np.array([float(row[2].strip('"').replace(",", ".")) for i, row in enumerate(rows) if i != 2])
    np.testing.assert_allclose(table.values[:, 0], (first - first.mean()) / first.std())


@pytest.mark.parametrize(
    ("text", "words"), [("1,2\n1,x\n", "row 2 does not read"), ("1,2\n1\n", "row 2 has 1 columns"), ("\n", "no rows")]
)
def test_a_broken_file_is_named_with_its_row(tmp_path, text, words):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(PosecovError, match=f"t.csv: {words}"):
        read_numbers(path, header=False)


def test_unknown_tables_and_missing_folders_are_named(tmp_path):
    with pytest.raises(PosecovError, match="no table 'iris'"):
        read_table(tmp_path, "iris")
    with pytest.raises(PosecovError, match="holds uci/"):
        read_table(tmp_path, "energy")
    (tmp_path / "uci").mkdir()
    with pytest.raises(PosecovError, match="cannot be read"):
        read_table(tmp_path, "energy")


@pytest.fixture
def toy() -> Table:
    return Table("toy", np.arange(40 * 9.0).reshape(40, 9))


def test_a_quarter_of_the_columns_are_inputs_and_every_column_is_used_once(toy):
    split = split_table(toy, 0, 0.2)
    assert (split.x.shape, split.y.shape) == ((32, 2), (32, 7))
    assert (split.held_out_x.shape, split.held_out_y.shape) == ((8, 2), (8, 7))
    everything = np.block([[split.x, split.y], [split.held_out_x, split.held_out_y]])
    assert sorted(everything.ravel()) == list(range(360))
    # Within a row of the result all values come from one row of the table.
    assert {len(set(row // 9)) for row in everything} == {1}


def test_trials_differ_and_repeat(toy):
    first, again, other = (split_table(toy, seed, 0.2) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.y, again.y)
    assert not np.array_equal(np.sort(first.x % 9, axis=0)[0], np.sort(other.x % 9, axis=0)[0])


def test_fewer_rows_can_be_asked_for(toy):
    split = split_table(toy, 0, 0.25, rows=20)
    assert (len(split.x), len(split.held_out_x)) == (15, 5)
    assert len(split_table(toy, 0, 0.0, rows=999).x) == 40


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_DATA, reason="POSECOV_DATA is not set: the real UCI tables are not here")
def test_real_tables():
    shapes = {name: (len(t.values), t.inputs, t.targets) for name in TABLES for t in [read_table(Path(REAL_DATA), name)]}
    assert shapes == {
        "abalone": (4177, 2, 6), "air": (6941, 3, 9), "concrete": (1030, 2, 7), "electrical": (10000, 3, 11),
        "energy": (768, 2, 8), "gas": (36733, 2, 9), "naval": (11934, 4, 12), "parkinson": (1040, 7, 21),
        "red-wine": (1599, 3, 9), "white-wine": (4898, 3, 9),
    }  # fmt: skip
