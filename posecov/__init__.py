"""posecov: a picture goes in, keypoints with a full, calibrated joint covariance come out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posecov.errors import PosecovError
    from posecov.estimator import PoseEstimator
    from posecov.pose import Pose

    __version__: str

__all__ = ["Pose", "PoseEstimator", "PosecovError", "__version__"]

# Loaded when first asked for: importing one module of the package should not start OpenCV and ONNX Runtime.
_HOMES = {"Pose": "posecov.pose", "PoseEstimator": "posecov.estimator", "PosecovError": "posecov.errors"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value = version("posecov")
        except PackageNotFoundError:
            value = "0+unknown"  # Run from a clone that is not installed.
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
