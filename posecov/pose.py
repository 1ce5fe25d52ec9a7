"""One person's pose: keypoints with a full, calibrated joint covariance, and the questions that it answers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from posecov import coordinates, law
from posecov.errors import PosecovError
from posecov.geometry import Similarity
from posecov.skeleton import Skeleton

SAME_PIXEL = 1e-2
"""How far, in pixels, a point may lie from a joint that is known and still be called the same: float32 and JSON round."""


@dataclass(frozen=True, eq=False)
class Pose:
    """Keypoints of one person and how sure they are.

    Attributes:
        keypoints: (J, 2) float32, pixels of the picture, 0-based.
        covariance: (2J, 2J) float32, pixels^2, order x0 y0 x1 y1 ...: calibrated second moments about the keypoints.
        skeleton: the joints, in the order of the keypoints.
        degrees_of_freedom: of the law, more than 2; `math.inf` for a Gaussian.
        box: (4,) float32 x, y, width, height of the person in the picture, or None.
        known: names of joints fixed by `condition`. Their rows of the covariance are 0.

    Raises:
        PosecovError: shapes that do not fit, numbers that are not finite, a covariance that is not positive definite.
    """

    keypoints: np.ndarray
    covariance: np.ndarray
    skeleton: Skeleton
    degrees_of_freedom: float = math.inf
    box: np.ndarray | None = None
    known: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        joints = len(self.skeleton)
        keypoints = _numbers(self.keypoints, (joints, 2), "keypoints")
        covariance = _numbers(self.covariance, (2 * joints, 2 * joints), "covariance")
        covariance = (covariance + covariance.T) / 2
        if not self.degrees_of_freedom > 2:
            raise PosecovError(f"a pose needs more than 2 degrees of freedom, not {self.degrees_of_freedom}")
        indices = sorted({self.skeleton.index(name) for name in self.known})
        fixed = coordinates.rows(indices)
        covariance[fixed, :] = covariance[:, fixed] = 0.0
        # What is kept is float32, so that is what must factorise.
        covariance = covariance.astype(np.float32)
        free = np.setdiff1d(np.arange(2 * joints), fixed)
        try:
            np.linalg.cholesky(covariance[np.ix_(free, free)].astype(np.float64))
        except np.linalg.LinAlgError:
            raise PosecovError("the covariance of this pose is not positive definite") from None
        box = None if self.box is None else _frozen(_numbers(self.box, (4,), "box").astype(np.float32))
        checked = {
            "keypoints": _frozen(keypoints.astype(np.float32)),
            "covariance": _frozen(covariance),
            "degrees_of_freedom": float(self.degrees_of_freedom),
            "box": box,
            "known": tuple(self.skeleton.keypoints[index] for index in indices),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def names(self) -> tuple[str, ...]:
        """The J joint names."""
        return self.skeleton.keypoints

    @property
    def sigma(self) -> np.ndarray:
        """(J,) float32 standard deviation of each joint in pixels, averaged over directions (`law.joint_sigma`)."""
        return law.joint_sigma(self.covariance)

    @property
    def scatter(self) -> np.ndarray:
        """(2J, 2J) float64 scatter of the law: what stands in its density. The covariance is nu / (nu - 2) times it."""
        return law.scatter_from_covariance(self.covariance, self.degrees_of_freedom)

    @property
    def alternatives(self) -> list[tuple["Pose", float]]:
        """Poses with left and right exchanged, each with its probability; empty for a law of one component."""
        return []

    def ellipse(self, joint: str, mass: float = 0.95) -> tuple[np.ndarray, np.ndarray, float]:
        """The central ellipse that holds the joint with probability ``mass``.

        Returns:
            Centre (2,) and semi-axes (2,) in pixels, the longer first, and the angle atan2(y, x) of the first in radians, with
            y down as in the picture. The axes of a known joint are 0.
        """
        index = self.skeleton.index(joint)
        axes, angle = law.ellipse_axes(self._block(index), mass, self.degrees_of_freedom)
        return self.keypoints[index].astype(np.float64), axes, float(angle)

    def mass(self, points: np.ndarray) -> float:
        """Mass of the central region of the law that reaches these points: how surprising they are, 1 being the most.

        Over many people whose true points are given it is uniform on [0, 1] when the model is calibrated.

        Args:
            points: (J, 2) pixels; a joint with NaN is not asked. A joint that is known counts only by being in its place:
                elsewhere it is outside of every region.

        Raises:
            PosecovError: a wrong shape, or no joint asked.
        """
        points = np.array(points, dtype=np.float64)
        if points.shape != self.keypoints.shape:
            raise PosecovError(f"points must have shape {self.keypoints.shape}, not {points.shape}")
        if np.isinf(points).any():
            raise PosecovError("points must be finite, or NaN where a joint is not asked")
        asked = ~np.isnan(points).any(axis=1)
        if not asked.any():
            raise PosecovError("no joint of these points is given")
        points[~asked] = np.nan
        fixed = [self.skeleton.index(name) for name in self.known]
        moved = np.linalg.norm(points[fixed] - self.keypoints[fixed], axis=1)
        if (moved > SAME_PIXEL).any():
            return 1.0
        values = coordinates.flatten(points)[self._free]
        return 0.0 if np.isnan(values).all() else float(self._law().mass(values))

    def probability_within(self, joint: str, radius: float) -> float:
        """Probability that the joint lies within ``radius`` pixels of its keypoint. PosecovError when it is negative."""
        return float(law.probability_within(self._block(self.skeleton.index(joint)), radius, self.degrees_of_freedom))

    def condition(self, known: Mapping[str, Any]) -> "Pose":
        """This pose once some joints are known: the others move and narrow, or widen if the evidence fits badly.

        Args:
            known: (x, y) in pixels by joint name.

        Raises:
            PosecovError: an unknown joint, a point that is not two finite numbers, or one that moves a joint known already.
        """
        places = {self.skeleton.index(name): _numbers(point, (2,), f"the place of {name}") for name, point in known.items()}
        new = []
        for index in sorted(places):
            if self.names[index] not in self.known:
                new.append(index)
            elif np.linalg.norm(places[index] - self.keypoints[index]) > SAME_PIXEL:
                x, y = self.keypoints[index]
                raise PosecovError(f"{self.names[index]} is known already, at ({x:g}, {y:g}); condition the pose before that")
        if not new:
            return self
        fixed = coordinates.rows(new)
        values = coordinates.flatten(np.stack([places[index] for index in new]))
        conditioned = self._law().condition(np.searchsorted(self._free, fixed), values)
        rest = np.setdiff1d(self._free, fixed)
        mean = coordinates.flatten(self.keypoints.astype(np.float64))
        mean[fixed], mean[rest] = values, conditioned.mean
        covariance = np.zeros(self.covariance.shape)
        covariance[np.ix_(rest, rest)] = conditioned.covariance
        names = (*self.known, *(self.names[index] for index in new))
        dof = float(conditioned.degrees_of_freedom)
        return Pose(coordinates.unflatten(mean), covariance, self.skeleton, dof, box=self.box, known=names)

    def mapped(self, similarity: Similarity) -> "Pose":
        """This pose in the pixels of another frame, such as a part of the picture or an enlarged one; without its box."""
        points = similarity.points(self.keypoints.astype(np.float64))
        covariance = similarity.covariance(self.covariance.astype(np.float64))
        return Pose(points, covariance, self.skeleton, self.degrees_of_freedom, known=self.known)

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; `from_dict` gives back the same pose bit for bit. Infinite degrees of freedom are None."""
        sigma = _plain(self.sigma)
        points = _plain(self.keypoints)
        return {
            "box": None if self.box is None else _plain(self.box),
            "names": list(self.names),
            "keypoints": {n: {"x": p[0], "y": p[1], "sigma": s} for n, p, s in zip(self.names, points, sigma, strict=True)},
            "covariance": _plain(self.covariance),
            "degrees_of_freedom": None if math.isinf(self.degrees_of_freedom) else self.degrees_of_freedom,
            "known": list(self.known),
            "skeleton": self.skeleton.to_dict(),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Pose":
        """The inverse of `to_dict`. Raises PosecovError when something is missing or wrong."""
        try:
            skeleton = Skeleton.from_dict(fields["skeleton"])
            points = [(fields["keypoints"][name]["x"], fields["keypoints"][name]["y"]) for name in skeleton.keypoints]
            covariance, dof, box = fields["covariance"], fields["degrees_of_freedom"], fields.get("box")
            dof = math.inf if dof is None else float(dof)
            known = tuple(fields.get("known", ()))
        except (KeyError, TypeError, ValueError) as error:
            raise PosecovError(f"this is not a pose: {type(error).__name__} {error}") from None
        return cls(np.array(points), covariance, skeleton, dof, box=box, known=known)

    @property
    def _free(self) -> np.ndarray:
        """Rows of the coordinates that are not known."""
        fixed = coordinates.rows([self.skeleton.index(name) for name in self.known])
        return np.setdiff1d(np.arange(len(self.covariance)), fixed)

    def _law(self) -> law.Law:
        """The law of the coordinates that are not known."""
        mean, covariance, free = coordinates.flatten(self.keypoints), self.covariance, self._free
        return law.Law.from_covariance(mean[free], covariance[np.ix_(free, free)], self.degrees_of_freedom)

    def _block(self, index: int) -> np.ndarray:
        """The joint's 2 x 2 block of the scatter."""
        rows = coordinates.rows([index])
        return self.scatter[np.ix_(rows, rows)]


def _numbers(value: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """A float64 copy with this shape and finite entries, or a PosecovError that says what is wrong."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise PosecovError(f"{what} must be numbers of shape {shape}") from None
    if array.shape != shape:
        raise PosecovError(f"{what} must have shape {shape}, not {array.shape}")
    if not np.isfinite(array).all():
        raise PosecovError(f"{what} must be finite")
    return array


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _plain(array: np.ndarray) -> list[Any]:
    """float32 as nested lists with the fewest digits that give the same float32 back."""
    return array.astype(np.float32).astype(str).astype(np.float64).tolist()
