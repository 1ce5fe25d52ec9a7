"""A model file opened with ONNX Runtime: crops in, means and covariances in crop pixels out.

A model whose law is a mixture over exchanges of left and right has two more outputs: the scatter of its components and their
weights.
"""

import contextlib
import ctypes
import io
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort

from posecov.errors import PosecovError
from posecov.metadata import KEY, ModelMetadata
from posecov.onnx_file import Unusable, look_through

BATCH = 16
"""Crops that go through the network at once; more does not make a CPU faster and needs more memory."""

PRESENCE = "presence"
"""An output that a model may have: the probability that somebody is in the crop."""

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_FATAL = 4  # ONNX Runtime's log level for fatal errors only.
_log = logging.getLogger(__name__)


class PoseModel:
    """An opened posecov model.

    Attributes:
        path: the file.
        metadata: what the file says about itself.
        providers: what the network really runs on, best first.
        tells_presence: whether there is an output `PRESENCE`.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None, providers: Sequence[str] | None = None):
        """Open and check a model.

        Args:
            path: an .onnx file that posecov exported.
            threads: CPU threads of the network; None leaves it to ONNX Runtime (all cores). OMP_NUM_THREADS has no effect.
            providers: ONNX Runtime's names of execution providers, best first; each must load. None takes the GPU
                when its libraries load and the CPU otherwise.

        Raises:
            PosecovError: the file is missing or is no posecov model, or a provider asked for does not load.
        """
        self.path = Path(path)
        self._session = open_session(self.path, threads, providers)
        self.providers: list[str] = self._session.get_providers()
        text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is None:
            raise PosecovError(f"{self.path}: not a posecov model (no posecov metadata in it); give one that posecov exported")
        self.metadata = ModelMetadata.from_json(text, str(self.path))
        self.tells_presence = PRESENCE in {output.name for output in self._session.get_outputs()}
        self._check_signature()
        # One value per channel (R, G, B) and grey level: normalising a crop is then a look-up.
        levels = np.arange(256, dtype=np.float64)
        mean, std = self.metadata.pixel_mean, self.metadata.pixel_std
        self._normalised = np.stack([(levels - m) / s for m, s in zip(mean, std, strict=True)]).astype(np.float32)

    def predict(self, crops: np.ndarray, batch: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints and covariances of crops.

        Args:
            crops: (N, S, S, 3) uint8, BGR.
            batch: how many go through the network at once, at most.

        Returns:
            (N, J, 2) and (N, 2J, 2J) float64, crop pixels.

        Raises:
            PosecovError: the network returned something else than finite arrays of these shapes.
        """
        outputs = self.outputs(crops, batch)
        return outputs["keypoints"], outputs["covariance"]

    def outputs(self, crops: np.ndarray, batch: int = BATCH) -> dict[str, np.ndarray]:
        """All outputs for crops, as `predict` takes them.

        Returns:
            float64, crop pixels: keypoints (N, J, 2) and covariance (N, 2J, 2J), the second moments about them; for a law of K
            components also scatter (N, 2J, 2J) and weights (N, K), of the metadata's exchanges; where the model tells it,
            presence (N,), the probability that somebody is in the crop.

        Raises:
            PosecovError: the network returned something else than finite arrays of these shapes, or weights that are none.
        """
        self._check_crops(crops)
        found = {name: np.empty((len(crops), *shape)) for name, shape in self._output_shapes().items()}
        for start in range(0, len(crops), batch):
            part = slice(start, start + batch)
            planes = self._input(crops[part])
            for name, output in self._checked(self._run(planes), len(planes)).items():
                found[name][part] = output
        return found

    def _check_crops(self, crops: np.ndarray) -> None:
        size = self.metadata.input_size
        if crops.ndim != 4 or crops.shape[1:] != (size, size, 3) or crops.dtype != np.uint8:
            raise PosecovError(f"crops must be (N, {size}, {size}, 3) uint8, not {crops.shape} {crops.dtype}")

    def _run(self, planes: np.ndarray) -> list[np.ndarray]:
        """What the network itself returns for `_input`, in the order of `_output_shapes`."""
        try:
            return self._session.run(list(self._output_shapes()), {"image": planes})
        except Exception as error:  # ONNX Runtime raises a different class for every way in which a run can fail.
            _log.debug("%s", self.path, exc_info=True)
            raise PosecovError(f"{self.path}: cannot be run ({first_line(error)}); export the model again") from None

    def _checked(self, outputs: Sequence[np.ndarray], count: int) -> dict[str, np.ndarray]:
        """By name what the network returned for so many crops. Raises PosecovError as `outputs` does."""
        found: dict[str, np.ndarray] = {}
        for (name, shape), output in zip(self._output_shapes().items(), outputs, strict=True):
            if output.shape != (count, *shape) or not np.isfinite(output).all():
                raise PosecovError(
                    f"{self.path}: its output {name!r} is not finite and {(count, *shape)}; export the model again"
                )
            found[name] = output.astype(np.float64)
        if "weights" in found and ((found["weights"] < 0).any() or (abs(found["weights"].sum(axis=1) - 1) > 1e-3).any()):
            raise PosecovError(f"{self.path}: its output 'weights' are no probabilities; export the model again")
        if PRESENCE in found and ((found[PRESENCE] < 0) | (found[PRESENCE] > 1)).any():
            raise PosecovError(f"{self.path}: its output {PRESENCE!r} is no probability; train it again with tools/presence.py")
        return found

    def _output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every output for one crop."""
        joints, components = len(self.metadata.skeleton), len(self.metadata.exchanges)
        square = (2 * joints, 2 * joints)
        shapes: dict[str, tuple[int, ...]] = {"keypoints": (joints, 2), "covariance": square}
        shapes |= {"scatter": square, "weights": (components,)} if components else {}
        return shapes | {PRESENCE: ()} if self.tells_presence else shapes

    def _input(self, crops: np.ndarray) -> np.ndarray:
        """Normalised RGB (N, 3, S, S) float32 of BGR crops."""
        planes = np.empty((len(crops), 3, *crops.shape[1:3]), dtype=np.float32)
        for crop, target in zip(crops, planes, strict=True):
            for channel, levels in enumerate(self._normalised):
                cv2.LUT(cv2.extractChannel(crop, 2 - channel), levels, target[channel])
        return planes

    def _check_signature(self) -> None:
        size = self.metadata.input_size
        inputs = {i.name: i for i in self._session.get_inputs()}
        outputs = {o.name: o for o in self._session.get_outputs()}
        if set(inputs) == {"picture", "box"}:
            raise PosecovError(f"{self.path}: has the crop map inside, for other programs; give the model without -whole")
        if set(inputs) != {"image"}:
            raise PosecovError(f"{self.path}: not a posecov model (its inputs are {', '.join(inputs) or 'none'}, not 'image')")
        expected: list[tuple[Any, tuple[int, ...]]] = [(inputs["image"], (3, size, size))]
        for name, asked in self._output_shapes().items():
            if name not in outputs:
                raise PosecovError(f"{self.path}: not a posecov model (it has no output {name!r})")
            expected.append((outputs[name], asked))
        for value, shape in expected:
            # A name or None stands for a size known only when the network runs; predict() checks those.
            known = len(value.shape) == len(shape) + 1 and all(
                not isinstance(have, int) or have == want for have, want in zip(value.shape[1:], shape, strict=True)
            )
            if value.type != "tensor(float)" or not known:
                raise PosecovError(
                    f"{self.path}: {value.name!r} is {value.type} {value.shape}, but its metadata asks for float (N, "
                    f"{', '.join(map(str, shape))}); export the model again"
                )
            if isinstance(value.shape[0], int):
                raise PosecovError(f"{self.path}: its batch size is fixed to {value.shape[0]}; export it with a dynamic one")


def open_session(
    path: Path,
    threads: int | None,
    providers: Sequence[str] | None,
    kind: str = "posecov model",
    source: str = "one that posecov exported",
    beside: bool = False,
) -> ort.InferenceSession:
    """An .onnx file opened, as `PoseModel` and the detectors take it.

    Args:
        path: the file.
        threads: as for `PoseModel`.
        providers: as for `PoseModel`.
        kind: what the file should be, for errors.
        source: where to have a good one from, for errors.
        beside: whether its weights may be in other files, in its folder or below.

    Raises:
        PosecovError: the file is missing or cannot be opened, or a provider asked for does not load.
    """
    if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
        raise PosecovError(f"threads must be a whole number of at least 1, not {threads!r}")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise PosecovError(f"{path}: {what}; give a {kind} (.onnx)")
    try:
        look_through(path, beside)
    except Unusable as error:
        raise PosecovError(f"{path}: not a model that ONNX Runtime can open ({error}); give {source}") from None
    available = ort.get_available_providers()
    if providers is not None:
        wanted = [providers] if isinstance(providers, str) else list(providers)
        if not wanted:
            raise PosecovError("providers must name at least one execution provider, or be None")
        for provider in wanted:
            if provider not in available:
                raise PosecovError(
                    f"execution provider {provider!r} is not in this ONNX Runtime; it has {', '.join(available)}"
                    " (for CUDA, install onnxruntime-gpu)"
                )
    else:
        wanted = [_CUDA, _CPU] if _CUDA in available and _has_cuda_driver() else [_CPU]
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.load_model_format", "ONNX")  # Not its own, which nobody has looked through.
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    # ONNX Runtime writes to the terminal when a provider does not load. What matters is checked below and said once.
    # Its default logger has no getter, so it goes back to the level that it starts with (warnings).
    ort.set_default_logger_severity(_FATAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            if _CUDA in wanted and hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # Finds CUDA and cuDNN in NVIDIA's Python packages.
            session = ort.InferenceSession(str(path), sess_options=options, providers=wanted, enable_fallback=0)
    except Exception as error:  # ONNX Runtime raises a different class for every way in which a file can be wrong.
        _log.debug("%s", path, exc_info=True)
        reason = first_line(error)
        if wanted == [_CPU] or _names_bad_file(error):
            raise PosecovError(
                f"{path}: not a model that ONNX Runtime can open{_known_reason(reason)}; give {source}"
            ) from None
        if providers is None:
            return open_session(path, threads, [_CPU], kind, source, beside)
        raise PosecovError(f"{path}: could not be opened on {', '.join(wanted)} ({reason})") from None
    finally:
        ort.set_default_logger_severity(2)
    try:
        _ = session.get_modelmeta().custom_metadata_map, [v.name for v in (*session.get_inputs(), *session.get_outputs())]
    except UnicodeDecodeError:
        raise PosecovError(
            f"{path}: not a model that ONNX Runtime can open (it is damaged, or something else); give {source}"
        ) from None
    loaded = session.get_providers()
    if providers is not None:
        for provider in wanted:
            if provider not in loaded:
                raise PosecovError(f"execution provider {provider!r} does not load: its libraries are missing; install them")
    elif _CUDA in wanted and _CUDA not in loaded:
        _log.info("the GPU's libraries do not load; the network runs on the CPU")
    return session


def first_line(error: Exception) -> str:
    """Of what ONNX Runtime says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _known_reason(message: str) -> str:
    """Why a file does not open, in brackets, where ONNX Runtime's message says something that a user can mend."""
    if operator := re.search(r"(\S+)\(-?\d+\) is not a registered function|No Op registered for (\w+)", message):
        return f" (it needs the operator {operator[1] or operator[2]}, which ONNX Runtime does not have)"
    if "Protobuf parsing failed" in message:
        return " (it is damaged, or something else)"
    return ""


def _names_bad_file(error: Exception) -> bool:
    return type(error).__name__ in ("InvalidProtobuf", "InvalidGraph", "NoSuchFile", "NoModel")


def _has_cuda_driver() -> bool:
    """Whether the NVIDIA driver is there: without it, asking for CUDA costs a second and a page of warnings."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
