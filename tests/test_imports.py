import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "posecov").rglob("*.py")
    if path.relative_to(ROOT).parts[1] != "learn"
)


def run(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_every_module_outside_learn_does_without_what_training_needs():
    assert "posecov.estimator" in MODULES
    code = f"""
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "timm", "albumentations", "matplotlib"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
for name in {MODULES!r}:
    importlib.import_module(name)
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


# What tools share runs nothing.
TOOLS = sorted(p.relative_to(ROOT) for p in (ROOT / "tools").rglob("*.py") if "__main__" in p.read_text())
WITHOUT_TRAINING = {
    *("evaluate.py", "measure_web.py", "model_card.py", "search.py", "smoothing.py", "web_sample.py"),
    *("float32_cholesky.py", "long_server.py", "long_video.py"),
}


@pytest.mark.parametrize("tool", [t for t in TOOLS if t.name not in WITHOUT_TRAINING], ids=str)
def test_tools_say_what_to_install_where_the_training_packages_are_missing(tool):
    arguments = ["train-step"] if tool.name == "benchmark.py" else []
    code = f"""
import runpy, sys

sys.modules["torch"] = None
sys.argv = [{str(tool)!r}, *{arguments!r}]
sys.path.insert(0, {str(tool.parent)!r})
runpy.run_path({str(tool)!r}, run_name="__main__")
"""
    done = run(code)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip() == f'{tool.stem}: torch is not installed; run pip install -e ".[train]"'


def test_evaluation_does_without_what_training_needs():
    code = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "timm", "albumentations", "h5py"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
sys.argv = ["tools/evaluate.py", "--weights", "none.onnx", "--data-root", "nowhere", "--dataset", "coco-val"]
runpy.run_path("tools/evaluate.py", run_name="__main__")
"""
    done = run(code)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "evaluate: none.onnx: no such file; give a posecov model (.onnx)"


@pytest.mark.parametrize("code", ["import posecov", "from posecov import PoseEstimator, Pose, PosecovError"])
def test_import_is_quick_and_light(code):
    timed = f"import sys, time; start = time.perf_counter(); {code}; print(time.perf_counter() - start, *sorted(sys.modules))"
    tries = [run(timed).stdout.split() for _ in range(3)]
    assert min(float(seconds) for seconds, *_ in tries) < 1.0
    assert not {"torch", "timm", "albumentations", "matplotlib", "skimage"} & set(tries[0])


def test_what_the_package_exports():
    import posecov

    for name in posecov.__all__:
        assert getattr(posecov, name) is not None
        assert name in dir(posecov)
    assert posecov.PoseEstimator.__module__ == "posecov.estimator"
    with pytest.raises(AttributeError, match="nothing"):
        posecov.nothing  # noqa: B018


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "posecov" / "py.typed").exists()
