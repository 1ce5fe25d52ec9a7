import copy
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from annotation_files import HEIGHT, WIDTH, coco, write_coco, write_mpii_csv, write_pictures
from annotation_files import people as mpii_people
from PIL import Image

from posecov.errors import PosecovError
from posecov.geometry import box_around
from posecov.learn.datasets import Problems, read_coco, read_datasets, split_validation, without_pictures_of
from posecov.learn.datasets.split import pick
from posecov.skeleton import Skeleton, load_skeleton

REAL_DATA = os.environ.get("POSECOV_DATA", "")
JOINTS = ["left_hand", "right_hand", "Tail", "nose"]
SKELETON = Skeleton("dog", ("nose", "l_hand", "r_hand", "tail"), (("l_hand", "r_hand"),))
NAMES = ["a.png", "b.png", "c.png"]


def points() -> np.ndarray:
    rng = np.random.default_rng(3)
    found = np.round(rng.uniform([30, 30], [WIDTH - 50, HEIGHT - 50], size=(3, 4, 2)))
    found[1, 3] = np.nan
    return found


@pytest.fixture
def root(tmp_path) -> Path:
    write_pictures(tmp_path / "mine" / "images", NAMES)
    write_coco(tmp_path / "mine" / "dogs.json", coco(points(), NAMES, JOINTS))
    return tmp_path


def test_a_data_set_of_ones_own_is_a_skeleton_and_a_file(root):
    records = read_datasets(["mine/dogs.json"], root, SKELETON)
    assert [record.name for record in records] == [f"mine/dogs.json/{i}" for i in (1, 2, 3)]
    # By name, whatever the order and the spelling.
    np.testing.assert_allclose(records[0].keypoints, points()[0][[3, 0, 1, 2]])
    assert records[1].labelled.tolist() == [False, True, True, True]
    assert np.isnan(records[1].keypoints[0]).all()


def test_the_folder_of_the_pictures_can_be_named(root):
    (root / "mine" / "images").rename(root / "photos")
    assert len(read_datasets([f"{root}/mine/dogs.json@{root}/photos"], "", SKELETON)) == 3
    assert len(read_datasets(["mine/dogs.json@photos"], root, SKELETON)) == 3
    with pytest.raises(PosecovError, match="no_such is not a folder"):
        read_datasets(["mine/dogs.json@no_such"], root, SKELETON)


def test_the_box_holds_the_joints_and_what_the_file_says(root):
    record = read_coco(root / "mine" / "dogs.json", root / "mine" / "images", Problems()).records[0]
    own = box_around(points()[0])
    low, high = np.minimum(own[:2], [10, 10]), np.maximum(own[:2] + own[2:], [160, 130])
    np.testing.assert_allclose(record.box, [*low, *(high - low)])
    document = coco(points(), NAMES, JOINTS)
    del document["annotations"][0]["bbox"]
    path = write_coco(root / "mine" / "no_box.json", document)
    np.testing.assert_allclose(read_coco(path, root / "mine" / "images", Problems()).records[0].box, own)


def test_crowds_others_and_people_without_labels_are_no_problem(root):
    document = coco(points(), NAMES, JOINTS)
    document["annotations"][0]["iscrowd"] = 1
    document["annotations"][1]["keypoints"] = [0] * 12
    document["annotations"].append({"id": 9, "image_id": 77, "category_id": 2, "bbox": [0, 0, 0, 0]})
    document["annotations"][2]["keypoints"][2] = 1
    problems = Problems()
    records = read_coco(write_coco(root / "x.json", document), root / "mine" / "images", problems).records
    assert [record.name for record in records] == ["coco/3"]
    assert records[0].occluded.tolist() == [True, False, False, False]
    assert not problems.lines


def test_several_data_sets_share_a_skeleton_and_missing_joints_are_unlabelled(root, data_root):
    (root / "mpii").mkdir()
    write_pictures(root / "mpii" / "images", NAMES)
    write_mpii_csv(root / "mpii" / "mpii_human_pose.csv", mpii_people(), NAMES)
    (root / "lspet").symlink_to(data_root / "lspet")
    skeleton = load_skeleton("lsp14")
    records = read_datasets(["lspet", "mpii"], root, skeleton)
    assert len(records) == 33
    mpii = records[30:]
    # MPII's upper neck and thorax are not LSP's neck.
    assert not any(record.labelled[skeleton.index("neck")] for record in mpii)
    np.testing.assert_allclose(mpii[0].keypoints[skeleton.index("l_wrist")], mpii_people()[0, 15] - 1)
    # Boxes stay those of all joints in the file.
    np.testing.assert_allclose(mpii[0].box, box_around(mpii_people()[0] - 1))


def _spoilt(change) -> dict:
    document = copy.deepcopy(coco(points(), NAMES, JOINTS))
    change(document, document["annotations"], document["images"])
    return document


BAD = {
    "missing picture": (lambda d, a, i: i[0].update(file_name="gone.png"), "gone.png is missing", 2),
    "above": (lambda d, a, i: i[0].update(file_name="../secret.png"), "leads out of", 2),
    "absolute": (lambda d, a, i: i[0].update(file_name="/etc/passwd"), "leads out of", 2),
    "windows": (lambda d, a, i: i[0].update(file_name="..\\secret.png"), "leads out of", 2),
    "no name": (lambda d, a, i: i[0].update(file_name=7), "not the name of a picture", 2),
    "outside": (lambda d, a, i: a[0]["keypoints"].__setitem__(0, WIDTH + 30), "annotation 1: joint left_hand lies at", 3),
    "negative": (lambda d, a, i: a[0]["keypoints"].__setitem__(1, -4), "outside its picture of 200 x 160", 3),
    "nan": (lambda d, a, i: a[0]["keypoints"].__setitem__(1, float("nan")), "not two finite numbers", 3),
    "text": (lambda d, a, i: a[0]["keypoints"].__setitem__(1, "4"), "not 4 times x, y, visibility", 2),
    "too few": (lambda d, a, i: a[0]["keypoints"].pop(), "not 4 times x, y, visibility", 2),
    "flat box": (lambda d, a, i: a[0].update(bbox=[1, 1, 0, 20]), "bbox has no size: 0 x 20", 2),
    "no box": (lambda d, a, i: a[0].update(bbox=[1, 1, 20]), "not four numbers", 2),
    "same id": (lambda d, a, i: a[1].update(id=1), "annotation 1: is there twice", 2),
    "same image": (lambda d, a, i: i[1].update(id=1), "image 1: is there twice", 2),
    "no image": (lambda d, a, i: a[0].update(image_id=99), "image_id 99 is not among", 2),
    "resized": (lambda d, a, i: i[0].update(width=WIDTH * 2), "the file says 400 x 160", 2),
    "unknown joint": (lambda d, a, i: d["categories"][0]["keypoints"].__setitem__(0, "left_hnad"), "mean l_hand", 2),
    "joint twice": (lambda d, a, i: d["categories"][0]["keypoints"].__setitem__(0, "r-hand"), "stands there twice", 2),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_bad_is_one_line_and_can_be_skipped(root, kind, caplog):
    change, says, left = BAD[kind]
    write_pictures(root, ["secret.png"])
    path = write_coco(root / "mine" / "bad.json", _spoilt(change))
    with pytest.raises(PosecovError) as caught:
        read_datasets(["mine/bad.json"], root, SKELETON)
    message = str(caught.value)
    assert says in message
    assert str(path) in message
    assert "--skip-bad" in message
    assert "\n" not in message
    problems = Problems()
    records = read_datasets(["mine/bad.json"], root, SKELETON, problems)
    problems.settle(skip_bad=True)
    assert says in caplog.text
    assert len(records) == left
    assert all(np.isfinite(record.keypoints[record.labelled]).all() for record in records)
    assert all("secret" not in str(record.image) for record in records)


def test_a_link_does_not_lead_out_either(root):
    write_pictures(root, ["secret.png"])
    (root / "mine" / "images" / "a.png").unlink()
    (root / "mine" / "images" / "a.png").symlink_to(root / "secret.png")
    with pytest.raises(PosecovError, match="is a link out of"):
        read_datasets(["mine/dogs.json"], root, SKELETON)


def test_sizes_are_those_of_the_turned_picture(root):
    path = root / "mine" / "images" / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (HEIGHT, WIDTH)).save(path, exif=exif)
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION).shape[:2] == (WIDTH, HEIGHT)
    assert len(read_datasets(["mine/dogs.json"], root, SKELETON)) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not readable JSON"),
        ('{"images": []}', "no list of annotations"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "no category names its joints"),
        ('{"images": [], "annotations": [], "categories": [{"keypoints": [1]}]}', "not a list of joint names"),
        ('{"images": [], "annotations": [], "categories": [{"keypoints": ["a"]}, {"keypoints": ["b"]}]}', "different joints"),
        ('{"images": [], "annotations": [], "categories": [{"keypoints": ["nose"]}]}', "nobody in it"),
    ],
)
def test_files_that_are_something_else(root, text, says):
    (root / "mine" / "x.json").write_text(text)
    with pytest.raises(PosecovError, match=says) as caught:
        read_datasets(["mine/x.json"], root, SKELETON)
    assert "mine/x.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(root):
    with pytest.raises(PosecovError, match=r"gone\.json: not found"):
        read_datasets(["mine/gone.json"], root, SKELETON)


def test_joints_of_the_skeleton_that_the_file_does_not_know_are_named(root):
    skeleton = Skeleton("dog", ("nose", "tail", "rump", "ear"), ())
    with pytest.raises(PosecovError, match="nobody in it has enough joints of skeleton dog; it does not know rump, ear; first"):
        read_datasets(["mine/dogs.json"], root, skeleton, Problems())


def test_others_in_the_same_picture_do_not_train(root):
    document = coco(points()[[0, 1, 2, 0, 1, 2]], [*NAMES, *NAMES], JOINTS)
    records = read_coco(write_coco(root / "x.json", document), root / "mine" / "images", Problems()).records
    train, validation = split_validation(records, "coco/", 1, seed=0)
    assert len(validation) == 1
    assert len(train) == 4
    assert validation[0].image not in {record.image for record in train}
    assert without_pictures_of(records, records[:2]) == [records[2], records[5]]
    assert pick(records, 2, seed=1) == pick(records, 2, seed=1)
    assert len(pick(records, 99, seed=1)) == 6


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_DATA, reason="POSECOV_DATA is not set: the real COCO pictures are not here")
def test_real_coco():
    records = read_datasets(["coco", "coco-val"], REAL_DATA, load_skeleton("coco17"))
    assert len({record.image for record in records}) == 42
    mapped = read_datasets(["coco"], REAL_DATA, load_skeleton("lsp14"))
    assert np.sum([record.labelled for record in mapped], axis=0)[-2:].tolist() == [0, 0]


def test_areas_are_those_of_outlines_and_no_number_where_there_is_none(root):
    document = coco(points(), NAMES, JOINTS)
    for annotation, area in zip(document["annotations"], (250.5, 0, None), strict=True):
        annotation["area"] = area
    write_coco(root / "mine" / "dogs.json", document)
    areas = [record.area for record in read_datasets(["mine/dogs.json"], root, SKELETON)]
    np.testing.assert_array_equal(areas, [250.5, np.nan, np.nan])


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.update(category_id=[1]),
        lambda a: a.update(area=10**400),
        lambda a: a["keypoints"].__setitem__(0, 10**400),
        lambda a: a.update(bbox=[10**400, 0, 1, 1]),
        lambda a: a.update(image_id={"id": 1}),
    ],
)
def test_values_that_no_tool_writes(tmp_path, change):
    names = ["a.jpg", "b.jpg", "c.jpg"]
    write_pictures(tmp_path, names)
    document = coco(mpii_people(), names, list(load_skeleton("mpii16").keypoints))
    change(document["annotations"][0])
    (tmp_path / "hostile.json").write_text(json.dumps(document))
    assert len(read_coco(tmp_path / "hostile.json", tmp_path, Problems()).records) >= 2
