"""Poses in the forms that other packages take: COCO results and supervision's KeyPoints.

Both want a score for every joint. What stands there is a probability with a stated meaning: the similarity (OKS) that the law
expects for the joint, or the probability that it lies within a radius.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from posecov.errors import PosecovError
from posecov.geometry import box_around

if TYPE_CHECKING:
    from posecov.pose import Pose

_NODES = 48  # Of the quadrature; the error is below 1e-4.


def expected_similarities(pose: "Pose") -> np.ndarray:
    """OKS that the law expects of every joint: the mean of exp(-d^2 / (2 area (2 sigma)^2)), d its distance from its keypoint.

    As a mean of probabilities: a number u between 0 and 1 is exceeded where d < 2 sigma sqrt(-2 area log u), and the integral
    over u of that probability is the mean. The area is `oks.BOX_TO_AREA` of the pose's box, or of one around its keypoints.

    Returns:
        (J,) in [0, 1], 1 for a joint that is known, NaN for one without a COCO sigma.
    """
    from posecov.evaluation.oks import BOX_TO_AREA, joint_sigmas

    box = box_around(pose.keypoints.astype(np.float64)) if pose.box is None else pose.box.astype(np.float64)
    reach = 2 * joint_sigmas(pose.skeleton) * np.sqrt(BOX_TO_AREA * box[2] * box[3])
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    # In v with u = v^3 the integrand is smooth at 0, where the radius grows without end.
    v = (node + 1) / 2
    radii, weight = np.sqrt(-6 * np.log(v)), weight / 2 * 3 * v**2
    found = np.full(len(pose.names), np.nan)
    for joint in np.flatnonzero(~np.isnan(reach)).tolist():
        inside = [pose.probability_within(pose.names[joint], float(radius * reach[joint])) for radius in radii]
        found[joint] = float(weight @ np.array(inside))
    return found


def scores(pose: "Pose", radius: float | None = None) -> np.ndarray:
    """A number in [0, 1] for every joint.

    Args:
        radius: pixels: the probability that the joint lies so close to its keypoint. None: `expected_similarities`.

    Returns:
        (J,).

    Raises:
        PosecovError: without a radius, a joint that has no COCO sigma.
    """
    if radius is not None:
        return np.array([pose.probability_within(name, radius) for name in pose.names])
    found = expected_similarities(pose)
    if np.isnan(found).any():
        name = pose.names[int(np.isnan(found).argmax())]
        raise PosecovError(
            f"skeleton {pose.skeleton.name} has no COCO sigma for {name!r}, so that no OKS can be expected; "
            "give radius=, or oks_sigmas in the skeleton"
        )
    return found


def to_coco(pose: "Pose", image_id: int, category_id: int = 1, radius: float | None = None) -> dict[str, Any]:
    """See `Pose.to_coco`."""
    found = scores(pose, radius)
    box = box_around(pose.keypoints.astype(np.float64)) if pose.box is None else pose.box
    triples = np.column_stack([pose.keypoints, found.astype(np.float32)])
    return {
        "image_id": image_id,
        "category_id": category_id,
        "keypoints": triples.reshape(-1).astype(float).tolist(),
        "bbox": np.asarray(box, dtype=float).tolist(),
        "score": float(found.mean()),
    }


def to_supervision(pose: "Pose", radius: float | None = None) -> Any:
    """See `Pose.to_supervision`."""
    try:
        import supervision
    except ImportError:
        raise PosecovError("supervision is not installed; run pip install supervision") from None
    confidence = scores(pose, radius).astype(np.float32)[None]
    # By place: newer versions call the third one keypoint_confidence, older ones confidence.
    return supervision.KeyPoints(pose.keypoints[None].copy(), np.zeros(1, dtype=int), confidence)
