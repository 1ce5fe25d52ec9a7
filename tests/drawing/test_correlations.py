"""The correlation view."""

import numpy as np
import pytest

from posecov.drawing import draw_correlations
from posecov.drawing.palette import ramp
from posecov.errors import PosecovError
from posecov.pose import Pose
from posecov.skeleton import Skeleton

SKELETON = Skeleton("arm", ("shoulder", "elbow", "wrist"), limbs=(("shoulder", "elbow"), ("elbow", "wrist")))
GREY = np.full((600, 800, 3), 120, dtype=np.uint8)
# In x, elbow and shoulder are tied with -0.9; the wrist is free. The elbow's longer axis is x.
COVARIANCE = np.diag([900.0, 225.0, 900.0, 225.0, 400.0, 400.0])
COVARIANCE[0, 2] = COVARIANCE[2, 0] = -0.9 * 900
POSE = Pose(np.array([[150.0, 200.0], [400.0, 200.0], [650.0, 200.0]]), COVARIANCE, SKELETON, 6.0)


def share(image, box, colour, tolerance=24):
    """Pixels of about a colour in a box x0, y0, x1, y1."""
    x0, y0, x1, y1 = (round(v) for v in box)
    return int((np.abs(image[y0:y1, x0:x1].astype(int) - colour).max(axis=2) < tolerance).sum())


def test_arrows_go_where_joints_would_go():
    image = draw_correlations(GREY, [POSE], "elbow", 0.9)
    _, axes, angle = POSE.ellipse("elbow", 0.9)
    step = axes[0] * np.cos(angle)
    bright, tied, free = (np.array(ramp(value)) for value in (1.0, 0.9 * np.sqrt(900 / 1125), 0.0))
    # The elbow's own arrow lies on its longer axis; the shoulder's points the other way, 0.9 times as long; the wrist has none.
    # Its ellipse's border, 1 / 0.9 times as far, is of the same colour.
    for point, reach, colour, end in ((400, step, bright, 1.5), (150, -0.9 * step, tied, 1.08)):
        near, far = sorted([point + 0.5 * reach, point + 0.9 * reach])
        assert share(image, (near, 192, far, 209), colour) > 30
        near, far = sorted([point + (1.08 if end > 1.1 else 1.03) * reach, point + end * reach])
        assert share(image, (near, 198, far, 203), colour) == 0
        # Limbs are paper-coloured: nothing of the arrow on the other side.
        near, far = sorted([point - 0.5 * reach, point - 0.9 * reach])
        assert share(image, (near, 198, far, 203), colour) == 0
    assert share(image, (640, 190, 660, 210), free) > 20


def test_what_cannot_be_picked():
    known = POSE.condition({"elbow": (400.0, 200.0)})
    with pytest.raises(PosecovError, match="elbow is known"):
        draw_correlations(GREY, [known], "elbow")
    with pytest.raises(PosecovError, match="nose"):
        draw_correlations(GREY, [POSE], "nose")
    draw_correlations(GREY, [known], "wrist")
    assert (draw_correlations(GREY, [], "wrist") != GREY).any()
