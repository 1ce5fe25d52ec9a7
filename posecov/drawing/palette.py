"""Colours of overlays, BGR."""

from collections.abc import Sequence

import numpy as np

from posecov.skeleton import Skeleton, canonical_joint

Colour = tuple[int, int, int]

# Warm for the person's right, cool for the left, neutral for what lies between; both kinds of dichromats tell them apart.
RIGHT: Colour = (48, 140, 255)
LEFT: Colour = (255, 190, 60)
CENTRE: Colour = (235, 235, 235)
INK: Colour = (28, 24, 22)
PAPER: Colour = (250, 250, 250)

# From dim to bright, so that order survives without colour vision and in grey print.
_RAMP = np.array([[0.0, 150, 132, 120], [0.4, 160, 92, 176], [0.7, 92, 112, 246], [1.0, 96, 226, 255]])


def side_of(skeleton: Skeleton, joints: Sequence[str]) -> Colour:
    """Colour of a joint or limb: that of the one side its joints are on, neutral when none or both."""
    paired = {joint for pair in skeleton.flip_pairs for joint in pair}
    sides = {canonical_joint(name)[0] for name in joints if name in paired}
    right, left = "r" in sides, "l" in sides
    return CENTRE if right == left else RIGHT if right else LEFT


def ramp(value: float) -> Colour:
    """Colour of a number between 0 and 1."""
    blue, green, red = (round(float(np.interp(value, _RAMP[:, 0], _RAMP[:, channel]))) for channel in (1, 2, 3))
    return blue, green, red
