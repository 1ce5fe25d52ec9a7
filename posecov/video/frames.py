"""What travels from stage to stage: a frame, and the people seen in it."""

from dataclasses import dataclass, field

import numpy as np

from posecov.pose import Pose


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a film or camera.

    Attributes:
        index: number among the frames that could be read, from 0.
        time: seconds since the first frame.
        ticks: the same in units of the film's time base, whole, greater than those of the frame before.
        image: (H, W, 3) uint8, BGR, upright.
        damaged: whether the decoder had to make up a part of it.
    """

    index: int
    time: float
    ticks: int
    image: np.ndarray
    damaged: bool = False


@dataclass(frozen=True, eq=False)
class Followed:
    """A person in a frame.

    Attributes:
        id: the same for the same person in every frame, as far as whoever follows people knows.
        pose: in pixels of the frame, smoothed where that was asked for.
        measured: the pose as it was estimated in this frame, the same as ``pose`` where nothing is smoothed; None where the
            person was not seen and ``pose`` is what motion and other frames tell.
    """

    id: int
    pose: Pose
    measured: Pose | None


@dataclass(frozen=True, eq=False)
class Seen:
    """A frame once the network has seen it.

    Attributes:
        frame: what was looked at.
        people: who is there.
        canvas: (H', W', 3) uint8, BGR: the frame with its people drawn on it; None where nobody wants that.
    """

    frame: Frame
    people: list[Followed] = field(default_factory=list)
    canvas: np.ndarray | None = None
