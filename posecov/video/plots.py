"""Plots of a film's results as PNG: expected errors over time, and which joints are wrong together. They need matplotlib."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecov import coordinates
from posecov.drawing.palette import LEFT, RIGHT
from posecov.errors import PosecovError
from posecov.files import write_atomic
from posecov.pose import Pose
from posecov.skeleton import Skeleton, canonical_joint
from posecov.video.results import read_results
from posecov.video.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 4
"""People in a plot, those who are there longest."""


def require_matplotlib() -> None:
    """Raises PosecovError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise PosecovError('plots need matplotlib; run pip install -e ".[plots]"') from None


PLOTS: Mapping[str, tuple[str, Table]] = {}
