"""Contact sheets."""

import numpy as np

from posecov.drawing.sheet import cell, cut_out, sheet
from posecov.pose import Pose
from posecov.skeleton import Skeleton

POSE = Pose(np.array([[620.0, 410.0], [660.0, 450.0]]), 9 * np.eye(4), Skeleton("two", ("a", "b")), 6.0, [600, 400, 80, 60])


def test_a_person_is_cut_out_with_the_pose_in_place():
    image = np.zeros((900, 1200, 3), np.uint8)
    image[405:416, 615:626] = 255
    part, mapped = cut_out(image, POSE)
    assert max(part.shape) == 480
    rows, columns = np.nonzero(part[:, :, 0] > 127)
    np.testing.assert_allclose([columns.mean(), rows.mean()], mapped.keypoints[0], atol=0.6)
    scale = np.linalg.norm(np.diff(mapped.keypoints, axis=0)) / np.linalg.norm(np.diff(POSE.keypoints, axis=0))
    np.testing.assert_allclose(mapped.expected_error, scale * POSE.expected_error, rtol=1e-5)
    # A large person is made smaller.
    part, _ = cut_out(image, Pose(POSE.keypoints, POSE.covariance, POSE.skeleton, 6.0, [0, 0, 1200, 900]))
    assert part.shape == (360, 480, 3)


def test_cells_make_a_sheet():
    image = np.full((900, 1200, 3), 120, np.uint8)
    cells = [cell(image, POSE, ["a name that is much too long for its place.jpg" * 2, "text"], click="a") for _ in range(3)]
    assert len({one.shape for one in cells}) == 1
    page = sheet(cells, "title", across=2)
    height, width = cells[0].shape[:2]
    assert page.shape[1] > 2 * width
    assert 2 * height < page.shape[0] < 3 * height
    assert (cell(image, POSE, ["x", "y"]) != cell(image, POSE, ["x", "y"], click="a")).any()
