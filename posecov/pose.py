"""One person's pose: keypoints with a full, calibrated joint covariance, and the questions that it answers."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posecov import coordinates, law, regions
from posecov.components import checked, components_from_plain, components_to_plain, frozen, plain
from posecov.errors import PosecovError
from posecov.geometry import Similarity
from posecov.mixture import Mixture
from posecov.rounding import covariance_in_float32
from posecov.skeleton import Skeleton

SAME_PIXEL = 1e-2
"""How far, in pixels, a point may lie from a joint that is known and still be called the same: float32 and JSON round."""

LEAST_ALTERNATIVE = 1e-3
"""Probability below which an exchanged pose is not worth a mention."""


@dataclass(frozen=True, eq=False)
class Pose:
    """Keypoints of one person and how sure they are.

    Attributes:
        keypoints: (J, 2) float32, pixels of the picture, 0-based.
        covariance: (2J, 2J) float32, pixels^2, order x0 y0 x1 y1 ...: calibrated second moments about the keypoints. Where left
            and right may be confused they hold that too: such joints vary widely, and together.
        skeleton: the joints, in the order of the keypoints.
        degrees_of_freedom: of the law, more than 2; `math.inf` for a Gaussian.
        box: (4,) float32 x, y, width, height of the person in the picture, or None.
        known: names of joints fixed by `condition`. Their rows of the covariance are 0.
        components: the law of the coordinates that are not known when it is a mixture, whose leading mean are the keypoints;
            None for a single Student-t. `from_mixture` makes the other fields from it.

    Raises:
        PosecovError: shapes that do not fit, numbers that are not finite, a covariance that is not positive definite.
    """

    keypoints: np.ndarray
    covariance: np.ndarray
    skeleton: Skeleton
    degrees_of_freedom: float = math.inf
    box: np.ndarray | None = None
    known: tuple[str, ...] = ()
    components: Mixture | None = None

    def __post_init__(self) -> None:
        joints = len(self.skeleton)
        keypoints = _numbers(self.keypoints, (joints, 2), "keypoints")
        covariance = _numbers(self.covariance, (2 * joints, 2 * joints), "covariance")
        if not self.degrees_of_freedom > 2:
            raise PosecovError(f"a pose needs more than 2 degrees of freedom, not {self.degrees_of_freedom}")
        indices = sorted({self.skeleton.index(name) for name in self.known})
        fixed = coordinates.rows(indices)
        free = np.setdiff1d(np.arange(2 * joints), fixed)
        # What is kept is float32, so that is what must be a covariance.
        kept = np.zeros(covariance.shape, dtype=np.float32)
        kept[np.ix_(free, free)] = covariance_in_float32(covariance[np.ix_(free, free)], "the covariance of this pose")
        box = None if self.box is None else frozen(_numbers(self.box, (4,), "box").astype(np.float32))
        fields = {
            "keypoints": frozen(keypoints.astype(np.float32)),
            "covariance": frozen(kept),
            "degrees_of_freedom": float(self.degrees_of_freedom),
            "box": box,
            "known": tuple(self.skeleton.keypoints[index] for index in indices),
            "components": None if self.components is None else checked(self.components, self.degrees_of_freedom),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if self.components is not None:
            mean, block = coordinates.flatten(self.keypoints)[free], self.covariance[np.ix_(free, free)]
            fits = self.components.means.shape[-1] == len(free) and np.allclose(mean, self.components.mean, rtol=1e-5)
            sigma = np.sqrt(np.diagonal(block))
            if not fits or (np.abs(block - self.components.covariance) > 1e-3 * sigma[:, None] * sigma).any():
                raise PosecovError("the keypoints and covariance of this pose are not those of its components")

    @classmethod
    def from_mixture(
        cls, components: Mixture, skeleton: Skeleton, box: Any = None, known: Mapping[str, Any] | None = None
    ) -> "Pose":
        """The pose of a law.

        Args:
            components: of the coordinates of all joints that are not known, one person's.
            skeleton: the joints.
            box: (4,) or None.
            known: places (x, y) of the known joints by name.
        """
        # In the digits that are kept: far from the origin the means' rounding would otherwise tell in the second moments.
        components = checked(components, float(components.degrees_of_freedom))
        places = {skeleton.index(name): point for name, point in (known or {}).items()}
        fixed = coordinates.rows(sorted(places))
        free = np.setdiff1d(np.arange(2 * len(skeleton)), fixed)
        mean, covariance = np.empty(2 * len(skeleton)), np.zeros((2 * len(skeleton), 2 * len(skeleton)))
        mean[free], covariance[np.ix_(free, free)] = components.mean, components.covariance
        for index, point in places.items():
            mean[coordinates.rows([index])] = point
        names = tuple(skeleton.keypoints[index] for index in places)
        several = components if components.components > 1 and len(free) else None
        nu = float(components.degrees_of_freedom)
        return cls(coordinates.unflatten(mean), covariance, skeleton, nu, box=box, known=names, components=several)

    @property
    def names(self) -> tuple[str, ...]:
        """The J joint names."""
        return self.skeleton.keypoints

    @property
    def sigma(self) -> np.ndarray:
        """(J,) float32 standard deviation of each joint in pixels, averaged over directions (`law.joint_sigma`)."""
        return law.joint_sigma(self.covariance)

    @property
    def expected_error(self) -> np.ndarray:
        """(J,) float32 expected distance in pixels of each joint from its keypoint, 0 for a known one.

        The number to sort by. The standard deviation, being a root of a mean of squares, follows what is rare and far; a joint
        with a 5 % chance to lie on the other side has a large `sigma` and a small expected error.
        """
        found = np.zeros(len(self.skeleton), dtype=np.float32)
        found[self._free[::2] // 2] = self._law().expected_errors()
        return found

    @property
    def scatter(self) -> np.ndarray:
        """(2J, 2J) float64 scatter that stands in the law's density around the keypoints, 0 in the rows of known joints.

        It is that of the leading component; of a single Student-t the covariance is nu / (nu - 2) times it.
        """
        if self.components is None:
            return law.scatter_from_covariance(self.covariance, self.degrees_of_freedom)
        scatter = np.zeros(self.covariance.shape)
        scatter[np.ix_(self._free, self._free)] = self.components.scatters[0]
        return scatter

    @property
    def alternatives(self) -> list[tuple["Pose", float]]:
        """Poses with left and right of some limb exchanged, each with its probability, the likeliest first.

        Each is the law under that hypothesis alone. Together with this pose they are the whole: what is left of 1 is the
        probability of the keypoints' own hypothesis. Exchanges that move no joint by more than its standard deviation count
        as the same hypothesis; those less likely than 0.001 are left out. Empty for a law of one component.
        """
        if self.components is None:
            return []
        places = self._places()
        return [
            (Pose.from_mixture(self.components.part(indices), self.skeleton, self.box, places), probability)
            for indices, probability in self.components.hypotheses()[1:]
            if probability >= LEAST_ALTERNATIVE
        ]

    def ellipse(self, joint: str, mass: float = 0.95) -> tuple[np.ndarray, np.ndarray, float]:
        """The ellipse around the keypoint that holds the joint with probability ``mass``.

        It has the shape of the law around the keypoint. Where left and right may be confused it is so large that it holds the
        mass all the same, which may mean that it reaches the mirror joint; `region` then says more in less space.

        Returns:
            Centre (2,) and semi-axes (2,) in pixels, the longer first, and the angle atan2(y, x) of the first in radians, with
            y down as in the picture. The axes of a known joint are 0.
        """
        index = self.skeleton.index(joint)
        point = self._joint(index)
        if isinstance(point, Mixture):
            axes, angle = regions.ellipse_axes(point, mass)
        else:
            axes, angle = law.ellipse_axes(point, mass, self.degrees_of_freedom)
        return self.keypoints[index].astype(np.float64), axes, float(angle)

    def ellipses(self, mass: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """The ellipses of all joints at once, which takes far less time than `ellipse` joint by joint.

        Returns:
            Semi-axes (J, 2) in pixels, the longer first, and the angles (J,) of the first, as `ellipse` gives them.
        """
        if self.components is None:
            return law.ellipse_axes(coordinates.joint_blocks(self.scatter), mass, self.degrees_of_freedom)
        axes, angles = np.empty((len(self.skeleton), 2)), np.empty(len(self.skeleton))
        several: dict[int, list[tuple[int, Mixture]]] = {}
        for index in range(len(self.skeleton)):
            point = self._joint(index)
            if isinstance(point, Mixture):
                several.setdefault(point.components, []).append((index, point))
            else:
                axes[index], angles[index] = law.ellipse_axes(point, mass, self.degrees_of_freedom)
        for alike in several.values():
            chosen = [index for index, _ in alike]
            weights, means, scatter = (
                np.stack([getattr(point, key) for _, point in alike]) for key in ("weights", "means", "scatter")
            )
            point = Mixture(weights, means, scatter, self.degrees_of_freedom)
            axes[chosen], angles[chosen] = regions.ellipse_axes(point, mass)
        return axes, angles

    def region(self, joint: str, mass: float = 0.95, *, lines: int = regions.LINES) -> list[np.ndarray]:
        """Outlines of the smallest region that holds the joint with probability ``mass``, where `ellipse` is a simple one.

        Args:
            joint: its name.
            mass: between 0 and 1.
            lines: of the grid on which the parts are looked for (`regions.contours`); fewer are faster.

        Returns:
            Polygons (n, 2) in pixels, the largest first: one ellipse, or two parts where the joint may be on either side. A
            polygon inside another is a hole. An empty list for a known joint.
        """
        index = self.skeleton.index(joint)
        if self.names[index] in self.known:
            return []
        point = self._joint(index)
        if isinstance(point, Mixture):
            return regions.contours(point, mass, lines)
        return [regions.ellipse_outline(*self.ellipse(joint, mass))]

    def mass(self, points: np.ndarray) -> float:
        """Mass of the central region of the law that reaches these points: how surprising they are, 1 being the most.

        Over many people whose true points are given it is uniform on [0, 1] when the model is calibrated. Where the law has
        several components the region is that of highest density, and its mass accurate to 0.005 (`Mixture.mass`).

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
        point = self._joint(self.skeleton.index(joint))
        if isinstance(point, Mixture):
            return regions.probability_within(point, radius)
        return float(law.probability_within(point, radius, self.degrees_of_freedom))

    def condition(self, known: Mapping[str, Any]) -> "Pose":
        """This pose once some joints are known: the others move and narrow, or widen if the evidence fits badly.

        Where left and right may be confused the evidence also decides between them, and the keypoints are then those of the
        likeliest exchange.

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
        if isinstance(conditioned, Mixture):
            new_places = {self.names[index]: places[index] for index in new}
            return Pose.from_mixture(conditioned, self.skeleton, self.box, self._places() | new_places)
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
        if self.components is not None:
            parts, places = self.components, {name: similarity.points(place) for name, place in self._places().items()}
            means = similarity.points(coordinates.unflatten(parts.means)).reshape(parts.means.shape)
            moved = dataclasses.replace(parts, means=means, scatter=similarity.covariance(parts.scatter))
            return Pose.from_mixture(moved, self.skeleton, known=places)
        points = similarity.points(self.keypoints.astype(np.float64))
        covariance = similarity.covariance(self.covariance.astype(np.float64))
        return Pose(points, covariance, self.skeleton, self.degrees_of_freedom, known=self.known)

    def to_coco(self, image_id: int, category_id: int = 1, radius: float | None = None) -> dict[str, Any]:
        """An entry of a COCO keypoint result file, as pycocotools reads it.

        Args:
            image_id: of the picture.
            category_id: COCO's person is 1.
            radius: what the scores mean. None: the object keypoint similarity that the law expects, for which every joint
                needs a COCO sigma (`evaluation.oks.joint_sigmas`). Pixels: the probability that a joint lies so close to its
                keypoint.

        Returns:
            image_id, category_id, keypoints (x, y and score of every joint in the skeleton's order, pixels), bbox (x, y,
            width, height) and score, the mean of the joints' scores.

        Raises:
            PosecovError: no radius, and a joint without a COCO sigma.
        """
        from posecov.interchange import to_coco

        return to_coco(self, image_id, category_id, radius)

    def to_supervision(self, radius: float | None = None) -> Any:
        """`supervision.KeyPoints` of this one person, with the scores of `to_coco` as confidences.

        Raises:
            PosecovError: supervision is not installed; no radius, and a joint without a COCO sigma.
        """
        from posecov.interchange import to_supervision

        return to_supervision(self, radius)

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; `from_dict` gives back the same pose bit for bit. Infinite degrees of freedom are None."""
        fields = {
            "box": None if self.box is None else plain(self.box),
            "names": list(self.names),
            "keypoints": self.keypoints_to_dict(),
            "covariance": plain(self.covariance),
            "degrees_of_freedom": None if math.isinf(self.degrees_of_freedom) else self.degrees_of_freedom,
            "known": list(self.known),
            "skeleton": self.skeleton.to_dict(),
        }
        return fields if self.components is None else fields | {"components": components_to_plain(self.components)}

    def keypoints_to_dict(self) -> dict[str, dict[str, float]]:
        """The x, y and sigma of every joint by its name, as in `to_dict`."""
        rows = zip(self.names, plain(self.keypoints), plain(self.sigma), strict=True)
        return {name: {"x": x, "y": y, "sigma": sigma} for name, (x, y), sigma in rows}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Pose":
        """The inverse of `to_dict`. Raises PosecovError when something is missing or wrong."""
        try:
            skeleton = Skeleton.from_dict(fields["skeleton"])
            points = [(fields["keypoints"][name]["x"], fields["keypoints"][name]["y"]) for name in skeleton.keypoints]
            covariance, dof, box = fields["covariance"], fields["degrees_of_freedom"], fields.get("box")
            dof = math.inf if dof is None else float(dof)
            known = tuple(fields.get("known", ()))
            several = fields.get("components")
            free = [point for point, name in zip(points, skeleton.keypoints, strict=True) if name not in known]
            components = None if several is None else components_from_plain(several, free, dof)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PosecovError(f"this is not a pose: {type(error).__name__} {error}") from None
        return cls(np.array(points), covariance, skeleton, dof, box=box, known=known, components=components)

    @property
    def _free(self) -> np.ndarray:
        """Rows of the coordinates that are not known."""
        fixed = coordinates.rows([self.skeleton.index(name) for name in self.known])
        return np.setdiff1d(np.arange(len(self.covariance)), fixed)

    def _places(self) -> dict[str, np.ndarray]:
        return {name: self.keypoints[self.skeleton.index(name)].astype(np.float64) for name in self.known}

    def _law(self) -> law.Law | Mixture:
        """The law of the coordinates that are not known."""
        if self.components is not None:
            return self.components
        mean, covariance, free = coordinates.flatten(self.keypoints), self.covariance, self._free
        return law.Law.from_covariance(mean[free], covariance[np.ix_(free, free)], self.degrees_of_freedom)

    def _joint(self, index: int) -> np.ndarray | Mixture:
        """The law of one joint: its 2 x 2 block of the scatter, or a mixture where that is not all."""
        rows = coordinates.rows([index])
        if self.components is None or self.names[index] in self.known:
            return self.scatter[np.ix_(rows, rows)]
        return self.components.marginal(np.searchsorted(self._free, rows))


def law_of_poses(poses: Sequence[Pose]) -> law.Law | Mixture:
    """The law of N people in pixels, one after the other, as every question to many people at once wants it.

    Args:
        poses: at least one, of one skeleton, without a joint that is known; all single Student-t's, or all mixtures over the
            same exchanges.

    Raises:
        PosecovError: none, or poses that have no law in common.
    """
    if not poses or any(pose.known or pose.skeleton != poses[0].skeleton for pose in poses):
        raise PosecovError(
            "only the laws of poses of one skeleton without known joints can be put together, and of at least one"
        )
    freedoms = np.array([pose.degrees_of_freedom for pose in poses])
    nu = float(freedoms[0]) if (freedoms == freedoms[0]).all() else freedoms
    parts = [pose.components for pose in poses if pose.components is not None]
    if not parts:
        means = coordinates.flatten(np.stack([pose.keypoints for pose in poses]))
        return law.Law.from_covariance(means, np.stack([pose.covariance for pose in poses]), nu)
    first = parts[0]
    kinds = {(part.components, None if part.orders is None else part.orders.tobytes()) for part in parts}
    if len(parts) < len(poses) or len(kinds) > 1:
        raise PosecovError("the laws of these poses have different components and cannot be put together")
    weights, means, scatter = (np.stack([getattr(part, key) for part in parts]) for key in ("weights", "means", "scatter"))
    return Mixture(weights, means, scatter, nu, first.orders)


_LARGEST = float(np.finfo(np.float32).max)  # What is kept is float32.


def _numbers(value: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """A float64 copy with this shape and entries that are finite in float32, or a PosecovError that says what is wrong."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise PosecovError(f"{what} must be numbers of shape {shape}") from None
    if array.shape != shape:
        raise PosecovError(f"{what} must have shape {shape}, not {array.shape}")
    if not (abs(array) <= _LARGEST).all():
        raise PosecovError(f"{what} must be finite in float32")
    return array
