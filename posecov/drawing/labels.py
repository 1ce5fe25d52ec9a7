"""Names on an overlay, none over another: of joints outside at the border, of joints inside beside them."""

import numpy as np

from posecov.drawing import canvas as shapes
from posecov.drawing.palette import INK, PAPER, Colour


class Labels:
    """Writes names on one canvas and remembers the places taken."""

    def __init__(self, canvas: np.ndarray):
        self.canvas = canvas
        self.size = shapes.letter_size(canvas.shape)
        self._taken: list[np.ndarray] = []

    def reserve(self, points: np.ndarray, radius: float) -> None:
        """Keep names off points (n, 2), such as the joints."""
        self._taken += [np.concatenate([point - radius, point + radius]) for point in points]

    def reserve_plate(self, corner: np.ndarray, extent: np.ndarray) -> None:
        """Keep names off a plate, such as the legend."""
        self._taken.append(np.concatenate([corner, corner + extent]))

    @property
    def middles(self) -> np.ndarray:
        """(n, 2) of the places taken."""
        return (np.array([box[:2] + box[2:] for box in self._taken]) / 2).reshape(-1, 2)

    def at_border(self, text: str, anchor: np.ndarray, away: np.ndarray) -> None:
        """A name on a dark plate beside an arrow at the border, moved along the border until it covers no other.

        Args:
            anchor: (2,) where the plate's edge should be.
            away: (2,) unit vector from the border into the picture.
        """
        limits = np.array([self.canvas.shape[1], self.canvas.shape[0]])
        pad = 0.35 * self.size
        extent = np.array([shapes.text_width(text, self.size) + 2 * pad, 1.35 * self.size])
        room = np.maximum(limits - extent - 2, 2)
        corner = np.clip(anchor + away * extent / 2 - extent / 2, 2, room)
        step = np.array([0.0, extent[1] + 2]) if abs(away[0]) > abs(away[1]) else np.array([extent[0] + 2, 0.0])
        for number in range(40):
            moved = corner + step * ((number + 1) // 2) * (1 if number % 2 else -1)
            if (moved >= 2).all() and (moved <= room).all() and not self._covered(moved, extent):
                corner = moved
                break
        self._taken.append(np.concatenate([corner, corner + extent]))
        plate = corner + extent * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        shapes.fill(self.canvas, [plate], INK, 0.68)
        shapes.write(self.canvas, text, (corner[0] + pad, corner[1] + 0.98 * self.size), self.size, PAPER)

    def beside(self, text: str, point: np.ndarray, gap: float, away: np.ndarray, colour: Colour = PAPER) -> None:
        """A name on the bare picture beside a joint, where it covers the least of the others.

        Args:
            point: (2,) of the joint.
            gap: between the two, pixels.
            away: (2,) direction in which it stands best, such as away from the body.
        """
        limits = np.array([self.canvas.shape[1], self.canvas.shape[0]])
        size = max(11, round(0.85 * self.size))
        extent = np.array([shapes.text_width(text, size), 0.95 * size])
        length = float(np.linalg.norm(away))
        away = away / length if length > 0 else np.array([1.0, 0.0])
        best, corner = np.inf, point
        for distance in (gap, gap + 0.7 * size, gap + 1.5 * size, gap + 2.5 * size):
            for turn in np.arange(12) * np.pi / 6:
                direction = np.array([np.cos(turn), np.sin(turn)])
                place = point + direction * (distance + extent / 2) - extent / 2
                beyond = np.maximum(np.maximum(-place, place + extent - limits), 0).sum()
                cost = 12 * self._covered(place, extent) + 40 * beyond / size + (distance - gap) / size - 0.6 * direction @ away
                if cost < best:
                    best, corner = cost, place
        self._taken.append(np.concatenate([corner, corner + extent]))
        shapes.write(self.canvas, text, (corner[0], corner[1] + 0.8 * size), size, colour, casing=INK)

    def _covered(self, corner: np.ndarray, extent: np.ndarray) -> float:
        """How much of what is taken a plate would cover, in plates."""
        if not self._taken:
            return 0.0
        taken = np.stack(self._taken)
        common = np.minimum(taken[:, 2:], corner + extent) - np.maximum(taken[:, :2], corner)
        return float(np.clip(common, 0, None).prod(axis=1).sum() / extent.prod())
