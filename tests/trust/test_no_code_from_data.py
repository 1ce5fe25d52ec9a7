"""Nothing that is read is run: no call that unpickles stands in posecov or tools, and pickles under any name do nothing."""

import ast
import io
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from posecov.errors import PosecovError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "trust"))

FORBIDDEN = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}


def sources():
    return [path for folder in ("posecov", "tools", "deploy") for path in (ROOT / folder).rglob("*.py")]


def trespasses(tree):
    """Line and reason of every call or import that could run what it reads."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from ((node.lineno, f"imports {name}") for name in names if name.partition(".")[0] in FORBIDDEN)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in ("np.load", "numpy.load", "np.lib.format.read_array") and said.get("allow_pickle") != "False":
            yield node.lineno, "np.load without allow_pickle=False"
        if called == "torch.load" and said.get("weights_only") != "True":
            yield node.lineno, "torch.load without weights_only=True"
        if called in ("eval", "exec", "yaml.unsafe_load", "yaml.full_load", "os.system") or said.get("shell") == "True":
            yield node.lineno, called
        if called == "yaml.load" and said.get("Loader") not in ("_Loader", "yaml.SafeLoader"):
            yield node.lineno, "yaml.load without a safe loader"
        if called == "onnx.load" and said.get("load_external_data") != "False":
            yield node.lineno, "onnx.load with external data"


def test_no_call_that_runs_what_it_reads():
    assert len(sources()) > 200
    found = {str(path.relative_to(ROOT)): list(trespasses(ast.parse(path.read_text(encoding="utf-8")))) for path in sources()}
    # The changed code of a mutant is made of this package's own.
    assert {path for path, lines in found.items() if lines} == {"tools/trust/mutants.py"}
    assert [reason for _, reason in found["tools/trust/mutants.py"]] == ["exec"]


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from joblib import load", "np.load(a)", "np.load(a, allow_pickle=True)", "torch.load(a)",
     "torch.load(a, weights_only=False)", "yaml.load(a)", "yaml.load(a, Loader=yaml.Loader)", "eval(a)", "run(a, shell=True)"],
)  # fmt: skip
def test_the_scan_sees(line):
    assert len(list(trespasses(ast.parse(line)))) == 1


class Malice:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def disguises(marker):
    """Files that make a folder when they are unpickled."""
    import torch

    array, saved, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, np.array([Malice(marker)], dtype=object), allow_pickle=True)
    np.savez(packed, a=np.array([Malice(marker)], dtype=object), allow_pickle=True)
    torch.save({"model/a": Malice(marker)}, saved)
    return {"pickle": pickle.dumps(Malice(marker)), "npy": array.getvalue(), "npz": packed.getvalue(), "pt": saved.getvalue()}


def test_the_disguises_work(tmp_path):
    pickle.loads(disguises(tmp_path / "marker")["pickle"])
    assert (tmp_path / "marker").is_dir()


@pytest.mark.parametrize("disguise", ["pickle", "npy", "npz", "pt"])
def test_pickles_under_any_name_do_nothing(tmp_path, disguise):
    from file_readers import READERS

    from posecov.learn.export import load_model
    from posecov.learn.pseudo_labels.engine import Streamed
    from posecov.learn.pseudo_labels.rowfile import read_rows

    marker = tmp_path / "marker"
    content = disguises(marker)[disguise]
    for name, reader in READERS.items():
        for seed in reader.seeds():
            path = tmp_path / seed
            path.write_bytes(content)
            with pytest.raises(PosecovError):
                reader.read(path)
            assert not marker.exists(), name
    for name in ("best.safetensors", "best.pt"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PosecovError, match="not a posecov checkpoint"):
            load_model(tmp_path / name)
    (tmp_path / "index.npy").write_bytes(content)
    for read in (lambda: Streamed(tmp_path, {}).open("index"), lambda: read_rows(tmp_path / "index.npy", 0, 1)):
        with pytest.raises(PosecovError, match="not a table"):
            read()
    assert not marker.exists()
