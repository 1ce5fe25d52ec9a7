import numpy as np
import pytest
from scipy.spatial import cKDTree

from posecov.drawing import CENTRE, LEFT, RIGHT, draw_poses, side_of
from posecov.drawing.canvas import letter_size
from posecov.drawing.legend import scale_bar
from posecov.mixture import Mixture
from posecov.pose import Pose
from posecov.skeleton import Skeleton, load_skeleton

SKELETON = Skeleton(
    name="arms",
    keypoints=("r_wrist", "l_wrist", "neck"),
    flip_pairs=(("r_wrist", "l_wrist"),),
    limbs=(("r_wrist", "neck"), ("l_wrist", "neck")),
)
GREY = np.full((600, 800, 3), 120, dtype=np.uint8)


def pose(points, sigma=12.0, covariance=None):
    covariance = np.eye(6) * sigma**2 if covariance is None else covariance
    return Pose(np.array(points, dtype=float), covariance, SKELETON, 6.0)


USUAL = pose([[200.0, 300.0], [600.0, 300.0], [400.0, 200.0]])


def near(image, point, colour, radius=3):
    """Whether a pixel close to the colour lies at a point."""
    x, y = (round(v) for v in point)
    patch = image[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1].reshape(-1, 3).astype(int)
    return (np.abs(patch - np.array(colour)).max(axis=1) < 40).any()


def test_sides_have_their_colours():
    lsp = load_skeleton("lsp14")
    assert side_of(lsp, ["r_knee", "r_hip"]) == RIGHT
    assert side_of(lsp, ["l_shoulder", "neck"]) == LEFT
    assert side_of(lsp, ["r_hip", "l_hip"]) == CENTRE
    assert side_of(lsp, ["neck", "head_top"]) == CENTRE
    coco = load_skeleton("coco17")
    assert {side_of(coco, [name]) for name in coco.keypoints} == {RIGHT, LEFT, CENTRE}


def test_limbs_and_joints_are_drawn_where_they_are():
    image = draw_poses(GREY, [USUAL])
    assert image.shape == GREY.shape
    assert near(image, (300, 250), RIGHT)
    assert near(image, (500, 250), LEFT)
    for point, colour in zip(USUAL.keypoints, (RIGHT, LEFT, CENTRE), strict=True):
        assert near(image, point, colour)
    assert (image[100, 100] == 120).all()


def test_the_picture_given_is_not_changed():
    before = GREY.copy()
    draw_poses(GREY, [USUAL])
    np.testing.assert_array_equal(GREY, before)


COVARIANCES = {
    "round": [[900, 0], [0, 900]],
    "rotated": [[900, 500], [500, 400]],
    "negative": [[900, -550], [-550, 400]],
    "thin": [[2500, -2499], [-2499, 2500]],
    "flat": [[3600, 0], [0, 1e-4]],
    "a line": [[1800, 1800 - 1e-3], [1800 - 1e-3, 1800]],
    "wide": [[9e6, -8e6], [-8e6, 9e6]],
}


@pytest.mark.parametrize("enlarged", [1, 3])
@pytest.mark.parametrize("mass", [0.5, 0.95])
@pytest.mark.parametrize("shape", COVARIANCES)
def test_the_outline_lies_within_a_pixel_of_the_true_level_set(shape, mass, enlarged):
    grey = np.full((480 // enlarged, 660 // enlarged, 3), 120, dtype=np.uint8)
    covariance, dof = np.array(COVARIANCES[shape]) / enlarged**2, 6.0
    # By the definition of the level set, from a root of the scatter: no axes and no angle.
    radius = np.sqrt(dof * (1 - mass) ** (-2 / dof) - dof)
    turn = np.linspace(0, 2 * np.pi, 400_001)
    root = np.linalg.cholesky(covariance * (dof - 2) / dof)
    level = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1) @ root.T
    centre = np.array([330.3, 215.6]) / enlarged
    if shape == "wide":  # Its outline passes through the middle of the picture, its joint is far outside.
        centre = centre - level[np.abs(level @ [1, -1]).argmin()]
    alone = Pose(centre[None], covariance, Skeleton("one", ("a",)), dof)
    drawn = draw_poses(grey, [alone], mass).astype(int)
    assert drawn.shape == (480, 660, 3)
    true = (centre + level + 0.5) * enlarged - 0.5
    spot = (centre + 0.5) * enlarged - 0.5 if shape != "wide" else np.zeros(2)
    size = 130 if shape == "wide" else 12  # Of the joint, or of the arrow to it with its name.

    def seen(points, margin):
        """Points away from the border, the legend and the joint."""
        kept = (points > margin).all(axis=1) & (points[:, 0] < 659 - margin) & (points[:, 1] < 440 - margin)
        return points[kept & (np.linalg.norm(points - spot, axis=1) > size + margin)]

    def bright(level):
        rows, columns = np.nonzero(drawn.min(axis=2) > level)
        return seen(np.stack([columns, rows], axis=1).astype(float), 2)

    # What is bright lies on the level set, and all of the level set is drawn.
    assert len(bright(165)) > 50
    assert cKDTree(true).query(bright(165))[0].max() < 1
    assert cKDTree(bright(150)).query(seen(true, 5))[0].max() < 1


def test_the_ellipse_is_translucent():
    noise = np.random.default_rng(0).integers(60, 200, GREY.shape, dtype=np.uint8)
    image = draw_poses(noise, [pose([[200.0, 300.0], [600.0, 300.0], [400.0, 200.0]], sigma=30)])
    patch = (slice(310, 330), slice(180, 190))
    assert np.corrcoef(noise[patch].ravel(), image[patch].ravel())[0, 1] > 0.8
    assert np.abs(image[patch].astype(int) - noise[patch]).mean() > 5


def test_where_left_and_right_may_be_confused_the_region_has_two_parts():
    points, swap = np.array([200.0, 300.0, 600.0, 300.0, 400.0, 200.0]), np.array([[0, 1, 2, 3, 4, 5], [2, 3, 0, 1, 4, 5]])
    law = Mixture.of_exchanges(points, 100 * np.eye(6), 6.0, np.array([0.6, 0.4]), swap)
    both = Pose.from_mixture(law, SKELETON)
    image, plain = draw_poses(GREY, [both], mass=0.9), draw_poses(GREY, [Pose.from_mixture(law.part([0]), SKELETON)], mass=0.9)
    # Blue lies around the right wrist too, where only its own colour lay; between the parts there is nothing.
    first, second = both.region("l_wrist", 0.9)
    for polygon in (first, second):
        lowest = polygon[polygon[:, 1].argmax()]
        assert near(image, lowest, LEFT) or near(image, lowest, RIGHT)
    patch = (slice(300, 340), slice(170, 230))
    assert (image[patch] != plain[patch]).any()
    assert (image[315:400, 300:500] == 120).all()


def test_small_pictures_are_enlarged_and_the_pose_with_them():
    small = np.full((60, 80, 3), 120, np.uint8)
    points = np.array([[20.0, 30.0], [60.0, 30.0], [40.0, 20.0]])
    image = draw_poses(small, [pose(points, sigma=1.25)])
    # Pixel centres: the middle of pixel 20 is (20 + 1/2) 8 - 1/2 in a picture eight times as large.
    large = draw_poses(np.full((480, 640, 3), 120, np.uint8), [pose(8 * points + 3.5, sigma=10)])
    np.testing.assert_array_equal(image[:440], large[:440])
    # Below is the legend, whose bar is of 5 pixels here and of 50 there.
    assert (image[440:] != large[440:]).any()
    assert max(draw_poses(np.zeros((8, 4000, 3), np.uint8), []).shape) == 4000


@pytest.mark.parametrize(
    ("place", "border"),
    [((400.0, 760.0), (400, 580)), ((950.0, 300.0), (780, 300)), ((-90.0, 200.0), (20, 200)), ((300.0, -50.0), (300, 20))],
)
def test_a_joint_outside_is_marked_at_the_border(place, border):
    inside = draw_poses(GREY, [USUAL]).astype(int)
    image = draw_poses(GREY, [pose([place, [600.0, 300.0], [400.0, 200.0]], sigma=2)]).astype(int)
    patch = (slice(max(border[1] - 20, 0), border[1] + 20), slice(max(border[0] - 20, 0), border[0] + 20))
    found = (np.abs(image[patch] - np.array(RIGHT)).max(axis=2) < 10).sum()
    assert found > 40
    assert (np.abs(inside[patch] - np.array(RIGHT)).max(axis=2) < 10).sum() == 0


def test_joints_outside_do_not_hide_one_another():
    points = [[950.0, 300.0], [951.0, 301.0], [400.0, 200.0]]
    one = draw_poses(GREY, [pose([points[0], [600.0, 300.0], points[2]], sigma=2)])
    both = draw_poses(GREY, [pose(points, sigma=2)])
    dark = [(image[150:450, 600:].max(axis=2) < 80).sum() for image in (one, both)]
    assert dark[1] > 1.5 * dark[0]


@pytest.mark.parametrize("place", [(1e9, 1e9), (-1e7, 300.0), (400.0, 200.0)])
def test_far_joints_and_wide_ellipses_are_drawn_without_trouble(place):
    covariance = np.diag([1e12, 1e10, 1.0, 1.0, 1e-6, 1e-6])
    image = draw_poses(GREY, [pose([place, [600.0, 300.0], [400.0, 200.0]], covariance=covariance)])
    assert near(image, (600, 300), LEFT)


def test_a_known_joint_has_no_ellipse():
    known = USUAL.condition({"r_wrist": (200.0, 300.0)})
    with_ellipse, without = draw_poses(GREY, [USUAL]), draw_poses(GREY, [known])
    _, axes, _ = USUAL.ellipse("r_wrist")
    point = (round(200 - 0.8 * axes[0]), 300)
    assert (with_ellipse[point[1], point[0]] != 120).any()
    assert (without[point[1], point[0]] == 120).all()


def test_the_legend_is_there_and_moves_away_from_joints():
    low = draw_poses(GREY, [USUAL])
    assert (low[-60:, :250].max(axis=2) < 100).sum() > 500
    crowded = draw_poses(GREY, [pose([[40.0, 570.0], [100.0, 575.0], [60.0, 500.0]])])
    assert (crowded[-60:, -250:].max(axis=2) < 100).sum() > 500
    assert (draw_poses(GREY, []) != GREY).any()


def test_several_masses_lie_inside_each_other():
    one, two = draw_poses(GREY, [USUAL], 0.9, legend=False), draw_poses(GREY, [USUAL], [0.5, 0.9], legend=False)
    _, inner, _ = USUAL.ellipse("r_wrist", 0.5)
    _, outer, _ = USUAL.ellipse("r_wrist", 0.9)
    for axis, image in ((inner[0], two), (outer[0], two), (outer[0], one)):
        assert near(image, (200 - axis, 300), RIGHT, radius=1)
    assert not near(one, (200 - inner[0], 300), RIGHT, radius=1)


def test_names_stand_beside_their_joints_on_demand():
    plain, named = draw_poses(GREY, [USUAL], legend=False), draw_poses(GREY, [USUAL], labels=True, legend=False)
    changed = (plain != named).any(axis=2)
    for x, y in USUAL.keypoints.astype(int):
        assert changed[y - 60 : y + 60, x - 150 : x + 150].sum() > 200
        assert not changed[y - 3 : y + 4, x - 3 : x + 4].any()
    close = pose([[400.0, 300.0], [404.0, 303.0], [400.0, 200.0]])
    changed = (draw_poses(GREY, [close], legend=False) != draw_poses(GREY, [close], labels=True, legend=False)).any(axis=2)
    apart = (plain != named).any(axis=2)
    assert changed.sum() > 0.85 * apart.sum()  # Names of joints that are close cover one another no more than others.


def test_clicks_fixed_joints_and_what_was_before():
    ringed = draw_poses(GREY, [USUAL], clicks={0: "l_wrist"}, legend=False)
    changed = np.argwhere((ringed != draw_poses(GREY, [USUAL], legend=False)).any(axis=2))
    assert len(changed) > 50
    assert np.linalg.norm(changed.mean(axis=0) - [300, 600]) < 2
    after = pose([[200.0, 360.0], [600.0, 300.0], [400.0, 200.0]])
    image = draw_poses(GREY, [after], former={0: USUAL}, legend=False)
    without = draw_poses(GREY, [after], legend=False)
    changed = (image != without).any(axis=2)
    assert changed[290:310, 250:270].sum() == 0 or changed[270:290, 240:260].any()
    assert changed[200:300, 200:400].any()  # The arm as it was,
    assert not changed[210:280, 480:560].any()  # but not the one that has not moved.


def test_the_bar_is_as_long_as_it_says():
    for height, pixels in ((600, 50), (60, 5)):
        image = draw_poses(np.full((height, height * 4 // 3, 3), 120, np.uint8), [])
        assert image.shape[0] >= 480
        scale = image.shape[0] / height
        bar = scale_bar(scale, image.shape)
        assert bar.text == f"{pixels} px"
        assert bar.width * letter_size(image.shape) == pytest.approx(pixels * scale)


def test_people_carry_their_numbers_above_them():
    other = pose([[260.0, 560.0], [540.0, 560.0], [400.0, 480.0]])
    plain = draw_poses(GREY, [USUAL, other], legend=False)
    changed = (draw_poses(GREY, [USUAL, other], numbers=[3, 12], legend=False) != plain).any(axis=2)
    ys, xs = changed.nonzero()
    # Above the necks, which are the highest joints.
    for top in (200, 480):
        here = (ys > top - 120) & (ys < top)
        assert here.sum() > 10
        assert abs(xs[here].mean() - 400) < 60
    assert not changed[500:].any()
    assert (draw_poses(GREY, [USUAL], numbers=None, legend=False) == draw_poses(GREY, [USUAL], legend=False)).all()
