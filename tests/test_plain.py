"""Numbers, names and YAML from files that anybody may have written."""

import os
import time

import pytest

from posecov.errors import PosecovError
from posecov.plain import MAX_YAML, is_file_name, is_number, read_yaml
from posecov.skeleton import load_skeleton


def test_numbers():
    assert all(map(is_number, (0, -3, 1.5, 2**62)))
    assert not any(map(is_number, (True, None, "1", float("nan"), float("inf"), 10**400, [1])))


def test_names_of_files():
    assert all(map(is_file_name, ("posecov-lsp14-small", "a b", "é", "..a")))
    wrong = ("", " ", ".", "..", "a/b", "/a", "../a", "a\\b", "C:a", "a\0", "a\nb", "x" * 300)
    assert not any(map(is_file_name, wrong))


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {marker}']",
        "!!python/name:os.system",
        "a: &a [1]\nb: *a",
        "a: 2024-99-99",
        "a: !!timestamp x",
        "a: !!bool 7",
        "a: !!int ''",
        "a: !!binary x",
        "[" * 5000,
        "{? [a] : b}",
        "a: [",
        "\0",
    ],
)
def test_yaml_that_is_none_of_ours(tmp_path, text):
    path = tmp_path / "skeleton.yaml"
    path.write_text(text.replace("{marker}", str(tmp_path / "marker")))
    with pytest.raises(PosecovError, match="not YAML") as caught:
        load_skeleton(path)
    assert str(caught.value).startswith(f"{path}: cannot read this skeleton")
    assert not (tmp_path / "marker").exists()


def test_aliases_cannot_grow(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)))
    start = time.process_time()
    with pytest.raises(PosecovError, match="aliases"):
        read_yaml(path, "recipe")
    assert time.process_time() - start < 5


def test_files_that_are_too_large_or_no_files(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"#" * (MAX_YAML + 1))
    with pytest.raises(PosecovError, match="larger than 1000 kB"):
        read_yaml(path, "recipe")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PosecovError, match="not a text file"):
        read_yaml(path, "recipe")
    for name in (tmp_path, tmp_path / "missing.yaml", tmp_path / ("x" * 300), os.devnull + "\0"):
        with pytest.raises(PosecovError, match="cannot read this recipe"):
            read_yaml(type(path)(name), "recipe")
