"""What ``posecov doctor`` finds out: versions, windows, ONNX Runtime's providers, a model's agreement with itself, its speed.

Every section looks for itself and imports what it needs when it runs: a broken OpenCV must not hide the versions.
"""

import hashlib
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecov.errors import PosecovError

NEEDED = ("numpy", "scipy", "pyyaml", "pillow", "rich", "tyro")
OPTIONAL = ("matplotlib", "pycocotools", "scikit-image", "supervision", "torch", "onnx")
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-silicon")

KEYPOINTS, SIGMAS, PRESENCES = 0.1, 0.02, 0.02
"""Differences in crop pixels, as a share of sigma and of a probability from which two runs of a model disagree."""

_CPU = "CPUExecutionProvider"
_UNTRIED = {
    "AzureExecutionProvider": "calls a remote service",
    "TensorrtExecutionProvider": "would first build an engine, for minutes",
    "NvTensorRTRTXExecutionProvider": "would first build an engine, for minutes",
}


@dataclass(frozen=True)
class Finding:
    """A line of the report.

    Attributes:
        text: what was found.
        verdict: True: checked and right. False: wrong. None: a fact that was not judged.
    """

    text: str
    verdict: bool | None = None

    def __str__(self) -> str:
        return f"{ {True: 'ok', False: 'FAIL', None: ''}[self.verdict]:5}{self.text}"


def examine(model: Path | None = None, seconds: float = 1.0) -> Iterator[tuple[str, list[Finding]]]:
    """Sections of the report, a title and its lines, each as soon as it is known.

    Args:
        model: an .onnx file; the shipped model by default.
        seconds: for each measurement of speed.
    """
    sections: list[tuple[str, Callable[[], list[Finding]]]] = [("system", system), ("packages", packages), ("windows", windows)]
    of_model: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("model", lambda: model_file(_path(model))),
        ("providers", lambda: providers(_path(model))),
        ("parity", lambda: parity(_path(model))),
        ("speed", lambda: speed(_path(model), seconds)),
    ]
    for title, look in [*sections, *of_model]:
        try:
            yield title, look()
        except Exception as error:  # Whatever is broken belongs into the report, and the other sections do too.
            first = (str(error).splitlines() or [""])[0]
            yield title, [Finding(first if isinstance(error, PosecovError) else f"{type(error).__name__}: {first}", False)]
            if title == "model":
                return  # Nothing below can run.


def system() -> list[Finding]:
    """posecov, Python and the machine."""
    import posecov

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        Finding(f"posecov {posecov.__version__} in {Path(__file__).resolve().parent}"),
        Finding(f"Python {platform.python_version()} ({platform.python_implementation()}) at {sys.executable}"),
        Finding(f"{platform.platform()}, {platform.machine()}, {cores} CPU cores for this process"),
    ]


def packages() -> list[Finding]:
    """Versions. Missing packages that posecov needs, and packages that overwrite each other, are wrong."""
    found = [_version(name, True) for name in NEEDED]
    for kind, names in (("OpenCV", OPENCV), ("ONNX Runtime", RUNTIMES)):
        there = [name for name in names if _installed(name)]
        found += [_version(name, True) for name in there]
        if not there:
            found.append(Finding(f"no {kind} is installed ({' or '.join(names[:2])})", False))
        elif len({_installed(name) for name in there}) > 1 or (kind == "ONNX Runtime" and len(there) > 1):
            found.append(Finding(f"{' and '.join(there)} write into the same folder; keep one of them", False))
        elif len(there) > 1:
            found.append(Finding(f"{' and '.join(there)} share a folder; the last one installed decides on windows"))
    return found + [_version(name, False) for name in OPTIONAL]


def windows() -> list[Finding]:
    """Whether OpenCV can show windows, and what they come from."""
    import cv2

    # Such as "GUI: GTK3", or "GUI: NONE" in a headless build.
    lines = [
        line.split(":", 1)[1].strip() for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")
    ]
    toolkit = lines[0] if lines and lines[0] != "NONE" else None
    place = f"OpenCV {cv2.__version__} at {Path(cv2.__file__).parent}"
    if toolkit is None:
        return [Finding(f"{place}: built without windows (headless)")]
    display = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    needs_display = sys.platform.startswith("linux") and not display
    return [
        Finding(f"{place}: windows by {toolkit}"),
        Finding(
            "no display: neither DISPLAY nor WAYLAND_DISPLAY is set" if needs_display else f"display {display or 'native'}"
        ),
    ]


def model_file(path: Path) -> list[Finding]:
    """What a model says about itself, and whether it is the one that the checksums beside it speak of."""
    from posecov.model import PoseModel

    opened = PoseModel(path, providers=[_CPU])
    facts = opened.metadata
    law = "Gaussian" if np.isinf(facts.degrees_of_freedom) else f"Student-t, {facts.degrees_of_freedom:.4g} degrees of freedom"
    exchanges = f", {len(facts.exchanges)} exchanges of left and right" if facts.exchanges else ""
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    found = [
        Finding(f"{path}, {path.stat().st_size / 1e6:.1f} MB"),
        Finding(
            f"{facts.name}: {len(facts.skeleton)} joints ({facts.skeleton.name}), {facts.input_size} px crops; {law}{exchanges}"
            f"; {'tells' if opened.tells_presence else 'does not tell'} whether somebody is there"
        ),
    ]
    sums = path.with_name("SHA256SUMS")
    listed = [line.split() for line in sums.read_text().splitlines()] if sums.is_file() else []
    expected = next((row[0] for row in listed if len(row) == 2 and row[1].lstrip("*") == path.name), None)
    if expected is None:
        return [*found, Finding(f"SHA-256 {sha}; no SHA256SUMS beside it to compare with")]
    return [*found, Finding(f"SHA-256 {sha} {'as' if sha == expected else 'is not that'} in SHA256SUMS", sha == expected)]


def providers(path: Path) -> list[Finding]:
    """ONNX Runtime's providers, each tried by a session of its own and compared with the CPU."""
    import onnxruntime as ort

    from posecov.model import PoseModel

    reference = PoseModel(path, providers=[_CPU])
    crops = drawn_crops(reference.metadata.input_size)
    expected = reference.outputs(crops)
    found = [Finding(f"ONNX Runtime {ort.__version__}; posecov takes {PoseModel(path).providers[0]} by itself")]
    for name in ort.get_available_providers():
        if name in _UNTRIED:
            found.append(Finding(f"{name}: in this build; not tried, since it {_UNTRIED[name]}"))
            continue
        try:
            outputs = PoseModel(path, providers=[name]).outputs(crops)
        except PosecovError as error:
            # Without its libraries a GPU's provider is only a name in the list; posecov then takes the CPU.
            found.append(Finding(f"{name}: in this build, but does not run ({error})", False if name == _CPU else None))
            continue
        found.append(_compared(f"{name}: runs", outputs, expected, "" if name == _CPU else " from the CPU"))
    return found


def parity(path: Path) -> list[Finding]:
    """Whether a crop gives the same alone and in a batch, and what the model's exporter had got for it."""
    from posecov.model import PoseModel

    opened = PoseModel(path)
    crops = drawn_crops(opened.metadata.input_size)
    together, alone = opened.outputs(crops, batch=len(crops)), opened.outputs(crops, batch=1)
    found = [_compared(f"{len(crops)} drawn crops one by one and in one batch", alone, together)]
    reference = opened.metadata.description.get("reference")
    if reference is None:
        return [*found, Finding("no reference outputs in the model: its agreement with its training was not checked")]
    outputs = {"keypoints": np.array(reference["keypoints"])[None], "sigma": np.array(reference["sigma"])[None]}
    first = {name: array[:1] for name, array in together.items()}
    return [*found, _compared("a drawn crop and what the exporter had got for it, stored in the model", first, outputs)]


def speed(path: Path, seconds: float) -> list[Finding]:
    """Milliseconds of the network for one crop, on one thread and as posecov runs by itself."""
    from posecov.model import PoseModel

    found = []
    for name, options in (("1 CPU thread", {"threads": 1, "providers": [_CPU]}), ("default", {})):
        opened = PoseModel(path, **options)  # type: ignore[arg-type]
        crop = drawn_crops(opened.metadata.input_size)[:1]
        opened.outputs(crop)
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            opened.outputs(crop)
            times.append(1000 * (time.perf_counter() - start))
        where = f" ({opened.providers[0]})" if name == "default" else ""
        spread = f"median of {len(times)} runs, the fastest {min(times):.1f}"
        found.append(Finding(f"{statistics.median(times):.1f} ms a crop, {name}{where}; {spread}"))
    return found


def drawn_crops(size: int) -> np.ndarray:
    """(3, S, S, 3) uint8 BGR: a drawn person, the same mirrored, and waves. NumPy alone: the same on every machine."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    image = np.stack([90 + 60 * y, 140 - 40 * x, 120 + 30 * np.sin(5 * x)], axis=-1)
    limbs = [
        ((0.50, 0.16), (0.50, 0.20), 0.075, (120, 160, 215)),  # Head, trunk, arms, legs.
        ((0.50, 0.32), (0.50, 0.52), 0.095, (60, 60, 190)),
        ((0.41, 0.30), (0.30, 0.44), 0.032, (110, 150, 205)),
        ((0.30, 0.44), (0.36, 0.57), 0.028, (110, 150, 205)),
        ((0.59, 0.30), (0.71, 0.40), 0.032, (110, 150, 205)),
        ((0.71, 0.40), (0.76, 0.25), 0.028, (110, 150, 205)),
        ((0.46, 0.56), (0.42, 0.74), 0.045, (140, 80, 50)),
        ((0.42, 0.74), (0.40, 0.92), 0.036, (140, 80, 50)),
        ((0.54, 0.56), (0.59, 0.73), 0.045, (140, 80, 50)),
        ((0.59, 0.73), (0.62, 0.91), 0.036, (140, 80, 50)),
    ]
    for (ax, ay), (bx, by), radius, colour in limbs:
        along = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2), 0, 1)
        distance = np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay))
        cover = np.clip((radius - distance) * size + 0.5, 0, 1)[:, :, None]
        image += cover * (np.array(colour) - image)
    waves = 127 + 100 * np.sin(40 * x * y + np.arange(3)[:, None, None]).transpose(1, 2, 0)
    return np.round(np.stack([image, image[:, ::-1], waves])).astype(np.uint8)


def reference_of(keypoints: np.ndarray, covariance: np.ndarray) -> dict[str, list]:
    """What an exporter stores in a model's description under ``reference``: what it got for the first of `drawn_crops`.

    Args:
        keypoints: (J, 2) crop pixels.
        covariance: (2J, 2J).
    """
    from posecov import law

    return {"keypoints": np.round(keypoints, 4).tolist(), "sigma": np.round(law.joint_sigma(covariance), 4).tolist()}


def sigma_of(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """(N, J) crop pixels, of what a model returned or of a reference."""
    from posecov import law

    return outputs["sigma"] if "sigma" in outputs else law.joint_sigma(outputs["covariance"])


def _compared(what: str, found: dict[str, np.ndarray], expected: dict[str, np.ndarray], than: str = "") -> Finding:
    points = float(np.abs(found["keypoints"] - expected["keypoints"]).max())
    sigmas = float(np.abs(sigma_of(found) / sigma_of(expected) - 1).max())
    agrees = points <= KEYPOINTS and sigmas <= SIGMAS
    said = f"{what}: keypoints differ by {points:.1g} px, sigmas by {100 * sigmas:.1g} %"
    if "presence" in found and "presence" in expected:
        presence = float(np.abs(found["presence"] - expected["presence"]).max())
        agrees, said = agrees and presence <= PRESENCES, f"{said}, presence by {presence:.1g}"
    return Finding(f"{said}{than}", agrees)


def _path(model: Path | None) -> Path:
    from posecov import resources
    from posecov.estimator import DEFAULT_MODEL

    return resources.find(DEFAULT_MODEL) if model is None else model


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _version(name: str, needed: bool) -> Finding:
    version = _installed(name)
    if version is None:
        return Finding(f"{name} is missing" if needed else f"{name} not installed (optional)", False if needed else None)
    return Finding(f"{name} {version}")
