import cv2
import numpy as np
import pytest

from posecov.geometry import Similarity, box_around, crop_map, warp

BOX = np.array([60.0, 40.0, 100.0, 150.0])
RNG = np.random.default_rng(5)
MAPS = {
    "plain": crop_map(BOX, 128),
    "padded": crop_map(BOX, 96, 1.25),
    "larger": crop_map(BOX, 400, 1.1),
    "turned": crop_map(BOX, 128, 1.25, rotation=0.6, zoom=0.8, shift=(0.05, -0.1)),
    "mirrored": crop_map(BOX, 128, 1.25, rotation=-0.4, zoom=1.2, mirror=True),
}


def blob(at, width=300, height=260, sigma=4.0):
    """A picture with one soft dot, whose centroid can be measured far below a pixel."""
    y, x = np.mgrid[:height, :width]
    layer = 255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * sigma**2))
    return np.repeat(layer.round().astype(np.uint8)[:, :, None], 3, axis=2)


def centroid(image):
    layer = image[:, :, 0].astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(layer * x).sum(), (layer * y).sum()]) / layer.sum()


@pytest.mark.parametrize("name", MAPS)
def test_a_dot_lands_where_its_point_does(name):
    similarity, size = MAPS[name], {"padded": 96, "larger": 400}.get(name, 128)
    for point in ([110.0, 115.0], [100.3, 98.6], [121.0, 130.5]):
        crop = warp(blob(point), similarity, size, cv2.BORDER_REPLICATE)
        np.testing.assert_allclose(centroid(crop), similarity.points(np.array(point)), atol=0.06)


@pytest.mark.parametrize("factor", [1.0, 1.7, 3.0, 7.3])
def test_pixel_centres_agree_at_every_reduction(factor):
    size = 40
    box = np.array([10.2, 5.7, size * factor, size * factor])
    similarity = crop_map(box, size)
    point = box[:2] + 0.55 * box[2:]
    image = blob(point, 420, 420, sigma=2.0 * factor)
    np.testing.assert_allclose(
        centroid(warp(image, similarity, size, cv2.BORDER_REPLICATE)), similarity.points(point), atol=0.06
    )


def test_the_crop_covers_the_squared_box_with_its_padding():
    similarity = crop_map(BOX, 128, 1.25)
    side = 1.25 * 150
    centre = np.array([110.0, 115.0])
    # A pixel reaches half a pixel around its centre: the crop's outer edges are -0.5 and 127.5.
    np.testing.assert_allclose(similarity.inverse().points(np.array([-0.5, -0.5])), centre - side / 2, atol=1e-9)
    np.testing.assert_allclose(similarity.inverse().points(np.array([127.5, 127.5])), centre + side / 2, atol=1e-9)


def test_zoom_shift_and_rotation_do_what_they_say():
    centre = BOX[:2] + BOX[2:] / 2
    assert crop_map(BOX, 128, zoom=1.5).scale == pytest.approx(1.5 * crop_map(BOX, 128).scale)
    shifted = crop_map(BOX, 128, shift=(0.1, -0.2)).points(centre) - crop_map(BOX, 128).points(centre)
    np.testing.assert_allclose(shifted, [12.8, -25.6])
    turned = crop_map(BOX, 128, rotation=np.pi / 2)
    step = turned.points(centre + [1, 0]) - turned.points(centre)
    np.testing.assert_allclose(step / np.linalg.norm(step), [0, 1], atol=1e-12)  # Clockwise: right becomes down.


@pytest.mark.parametrize("name", MAPS)
def test_the_inverse_undoes_everything(name):
    similarity = MAPS[name]
    back = similarity.inverse()
    points = RNG.normal(size=(5, 14, 2)) * 100
    root = RNG.normal(size=(28, 28))
    np.testing.assert_allclose(back.points(similarity.points(points)), points, atol=1e-9)
    np.testing.assert_allclose(back.covariance(similarity.covariance(root @ root.T)), root @ root.T, atol=1e-9)
    together = back.after(similarity)
    np.testing.assert_allclose(together.linear, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(together.offset, 0, atol=1e-9)


@pytest.mark.parametrize("name", MAPS)
def test_covariances_follow_points(name):
    similarity = MAPS[name]
    points = RNG.normal(size=(40, 3, 2)) * [3, 1]
    before = np.cov(points.reshape(40, 6).T)
    after = np.cov(similarity.points(points).reshape(40, 6).T)
    np.testing.assert_allclose(similarity.covariance(before), after, atol=1e-9)
    np.testing.assert_allclose(similarity.covariance(np.stack([before, 2 * before]))[1], 2 * after, atol=1e-9)
    table = np.arange(1.0, 4)[:, None, None, None, None] * np.broadcast_to(before, (2, 5, 6, 6))
    np.testing.assert_allclose(similarity.covariance(table)[2, 1, 4], 3 * after, atol=1e-9)


@pytest.mark.parametrize("name", MAPS)
def test_a_root_stays_the_symmetric_root(name):
    similarity = MAPS[name]
    factor = RNG.normal(size=(8, 8))
    values, vectors = np.linalg.eigh(factor @ factor.T)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    mapped = similarity.root(root)
    np.testing.assert_allclose(mapped, mapped.T, atol=1e-9)
    np.testing.assert_allclose(mapped @ mapped, similarity.covariance(factor @ factor.T), atol=1e-9)
    assert np.linalg.eigvalsh(mapped).min() > 0


def test_mirror_reflects_and_keeps_the_scale():
    plain, mirrored = crop_map(BOX, 128), crop_map(BOX, 128, mirror=True)
    assert np.linalg.det(plain.linear) == pytest.approx(-np.linalg.det(mirrored.linear))
    assert plain.scale == pytest.approx(mirrored.scale)
    point = np.array([90.0, 70.0])
    np.testing.assert_allclose(mirrored.points(point), plain.points(point) * [-1, 1] + [127, 0], atol=1e-9)


def test_after_is_one_map_then_the_other():
    first, second = MAPS["padded"], MAPS["mirrored"]
    points = RNG.normal(size=(6, 2)) * 50
    np.testing.assert_allclose(second.after(first).points(points), second.points(first.points(points)))


def test_shrinking_is_antialiased():
    # Lines one pixel wide, eight apart: without averaging a crop at an eighth is all white or all black.
    image = np.zeros((640, 640, 3), np.uint8)
    image[:, ::8] = 255
    crop = warp(image, crop_map(np.array([0.0, 0.0, 640.0, 640.0]), 80), 80)
    assert np.abs(crop[5:-5, 5:-5].astype(float) - 255 / 8).max() < 3


def test_outside_of_the_picture_is_grey_127():
    image = np.full((50, 50, 3), 255, np.uint8)
    for box in ([-50.0, 0.0, 100.0, 100.0], [-20.0, -20.0, 30.0, 30.0], [-500.0, -500.0, 900.0, 900.0]):
        crop = warp(image, crop_map(np.array(box), 64), 64)
        assert (crop[0, 0] == 127).all()
        assert (crop == 255).any()
    assert (warp(image, crop_map(np.array([400.0, 400.0, 50.0, 50.0]), 64), 64) == 127).all()


def test_all_corners_of_a_turned_crop_are_cut_out():
    image = np.full((200, 200, 3), 255, np.uint8)
    for eighth in range(8):
        for mirror in (False, True):
            similarity = crop_map(np.array([70.0, 70.0, 60.0, 60.0]), 32, rotation=eighth * np.pi / 4 + 0.3, mirror=mirror)
            assert (warp(image, similarity, 32) == 255).all()


def test_a_fourth_channel_is_padded_like_the_others():
    crop = warp(np.full((50, 50, 4), 255, np.uint8), crop_map(np.array([-50.0, 0.0, 100.0, 100.0]), 64), 64)
    assert (crop[0, 0] == 127).all()


def test_a_crop_of_a_long_picture():
    image = np.zeros((16, 40_000, 3), np.uint8)
    image[:, 39_000:39_010] = 255
    crop = warp(image, crop_map(np.array([38_997.0, 0.0, 16.0, 16.0]), 64), 64)
    assert crop.max() == 255


def test_box_around_leaves_a_tenth_of_the_longer_side():
    points = np.array([[10.0, 20.0], [40.0, 120.0], [30.0, 60.0]])
    np.testing.assert_allclose(box_around(points), [0, 10, 50, 120])
    assert (box_around(points[:1])[2:] > 0).all()


def test_matrix_is_what_opencv_takes():
    similarity = Similarity(np.array([[0.0, -2.0], [2.0, 0.0]]), np.array([3.0, 4.0]))
    np.testing.assert_array_equal(similarity.matrix, [[0, -2, 3], [2, 0, 4]])
    assert similarity.scale == pytest.approx(2)
