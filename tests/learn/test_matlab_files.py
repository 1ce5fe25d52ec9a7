"""MATLAB's files are looked through before SciPy, which damaged ones can crash."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from posecov.errors import PosecovError
from posecov.learn.datasets import matlab_files
from posecov.learn.datasets.matlab_files import load_variable

NESTED = {
    "numbers": np.arange(12.0).reshape(3, 4),
    "whole": np.arange(5, dtype=np.int16),
    "complex": np.array([1 + 2j]),
    "text": "Ångström",
    "empty": np.zeros((0, 3)),
    "flags": np.array([[True, False]]),
    "cells": np.array([1.0, "two", np.ones(3)], dtype=object),
    "struct": {"a": 1.0, "b": {"c": "d"}},
}


def written(path, variables, **options):
    scipy.io.savemat(path, variables, **options)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_good_files_are_what_scipy_says(tmp_path, packed):
    path = written(tmp_path / "a.mat", {**NESTED, "RELEASE": NESTED}, do_compression=packed)
    for name, value in scipy.io.loadmat(path, squeeze_me=True).items():
        if not name.startswith("__"):
            assert repr(load_variable(path, name, squeeze_me=True)) == repr(value)
    assert load_variable(path, "none of it") is None


def wrong_type(content):
    """The type of the numbers, the last tag of 12 doubles: SciPy 1.17 looks it up beyond its table and crashes."""
    at = content.rindex(struct.pack("<II", 9, 96))
    return content[:at] + struct.pack("<II", 0x7FFF, 96) + content[at + 8 :]


def more_than_there_is(content):
    at = content.index(struct.pack("<IIii", 5, 8, 3, 4))
    return content[:at] + struct.pack("<IIii", 5, 8, 2**20, 2**10) + content[at + 16 :]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (wrong_type, "not as many numbers"),
        (more_than_there_is, "not as many numbers"),
        (lambda content: content[:100], "shorter than a header"),
        (lambda content: content[:-8], "ends within an element"),
        (lambda content: content[:128] + b"\x0f\0\0\0\x08\0\0\0garbage!", "Error -3"),
        (lambda content: b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF", "version 7.3; save it with -v7"),
        (lambda content: bytes(200), "no header"),
    ],
)
def test_damage_is_one_line(tmp_path, change, said):
    path = written(tmp_path / "a.mat", {"joints": np.arange(12.0).reshape(3, 4)})
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(PosecovError, match=said) as caught:
        load_variable(path, "joints")
    assert str(caught.value).startswith(f"{path}: not a readable MATLAB file")


def test_functions_and_objects_are_refused(tmp_path):
    path = written(tmp_path / "a.mat", {"joints": np.ones((1, 1))})
    content = path.read_bytes()
    at = content.index(struct.pack("<II", 6, 8)) + 8
    for kind in (3, 5, 16, 17, 99):
        path.write_bytes(content[:at] + bytes([kind]) + content[at + 1 :])
        with pytest.raises(PosecovError, match=f"something of class {kind}"):
            load_variable(path, "joints")


def test_what_unpacks_beyond_bounds_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab_files, "MAX_BYTES", 100_000)
    path = written(tmp_path / "a.mat", {"joints": np.zeros((100, 200))}, do_compression=True)
    assert path.stat().st_size < 2000
    with pytest.raises(PosecovError, match="unpacked it is larger"):
        load_variable(path, "joints")


def test_structures_nested_too_deeply(tmp_path):
    inner: object = 1.0
    for _ in range(25):
        inner = np.array([inner, 1.0], dtype=object)
    path = written(tmp_path / "a.mat", {"joints": inner})
    assert load_variable(path, "joints") is not None
    for _ in range(10):
        inner = np.array([inner, 1.0], dtype=object)
    with pytest.raises(PosecovError, match="nested too deeply"):
        load_variable(written(tmp_path / "a.mat", {"joints": inner}), "joints")


def test_every_byte_of_a_packed_header(tmp_path):
    """Whatever single byte is changed, there is a result or one line."""
    content = io.BytesIO()
    scipy.io.savemat(content, {"s": {"a": np.arange(3.0), "b": "text"}})
    whole, chance, path = content.getvalue(), random.Random(0), tmp_path / "a.mat"
    for at in range(128, len(whole)):
        data = bytearray(whole[128:])
        data[at - 128] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 14, 15))
        packed = zlib.compress(bytes(data))
        path.write_bytes(whole[:128] + struct.pack("<II", 15, len(packed)) + packed)
        try:
            load_variable(path, "s", struct_as_record=False, squeeze_me=True)
        except PosecovError as error:
            assert "not a readable MATLAB file" in str(error)  # noqa: PT017
