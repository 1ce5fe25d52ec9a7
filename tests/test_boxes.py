import json
from pathlib import Path

import numpy as np
import pytest

from posecov.boxes import boxes_of, check_ids, read_boxes
from posecov.errors import PosecovError

FORMS = {
    "mapping.json": json.dumps({"a.jpg": [[1, 2, 3, 4], [5.5, 6, 7, 8]], "b.jpg": [[-1, 0, 9, 9]], "nobody.jpg": []}),
    "list.json": json.dumps(
        [
            {"file_name": "a.jpg", "bbox": [1, 2, 3, 4], "score": 0.9},
            {"file_name": "b.jpg", "bbox": [-1, 0, 9, 9]},
            {"file_name": "a.jpg", "bbox": [5.5, 6, 7, 8]},
        ]
    ),
    "coco.json": json.dumps(
        {
            "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}, {"id": 9, "file_name": "nobody.jpg"}],
            "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
            "annotations": [
                {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]},
                {"image_id": 7, "category_id": 2, "bbox": [50, 50, 3, 4]},
                {"image_id": 9, "category_id": 1, "iscrowd": 1, "bbox": [50, 50, 3, 4]},
                {"image_id": 8, "category_id": 1, "bbox": [-1, 0, 9, 9]},
                {"image_id": 7, "category_id": 1, "bbox": [5.5, 6, 7, 8]},
            ],
        }
    ),
    "table.csv": "image, x, y, width, height, score\na.jpg,1,2,3,4,0.9\nb.jpg,-1,0,9,9,1\n\na.jpg, 5.5, 6, 7, 8, 1\n",
    "bom.csv": "\ufeffimage,x,y,width,height\r\na.jpg,1,2,3,4\r\nb.jpg,-1,0,9,9\r\n./a.jpg,5.5,6,7,8\r\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_boxes(tmp_path, name):
    (tmp_path / name).write_text(FORMS[name], encoding="utf-8", newline="")
    boxes = read_boxes(tmp_path / name)
    np.testing.assert_array_equal(boxes["a.jpg"], [[1, 2, 3, 4], [5.5, 6, 7, 8]])
    np.testing.assert_array_equal(boxes["b.jpg"], [[-1, 0, 9, 9]])
    if name in ("mapping.json", "coco.json"):
        assert boxes["nobody.jpg"].shape == (0, 4)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "", "empty"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "3", "a file of boxes is"),
        ("a.json", '{"a.jpg": [1, 2, 3, 4]}', "box 1 of 'a.jpg'"),
        ("a.json", '{"a.jpg": [[1, 2, 3]]}', "box 1 of 'a.jpg'"),
        ("a.json", '{"a.jpg": [[1, 2, 3, 4], [1, 2, 3, "4"]]}', "box 2 of 'a.jpg'"),
        ("a.json", '{"a.jpg": [[1, 2, 3, NaN]]}', "box 1 of 'a.jpg'"),
        ("a.json", '{"a.jpg": [[1, 2, 3, true]]}', "box 1 of 'a.jpg'"),
        ("a.json", '{"a.jpg": [[1, 2, 0, 4]]}', "no size"),
        ("a.json", '{"a.jpg": null}', "must be a list"),
        ("a.json", '[{"image": 3, "bbox": [1, 2, 3, 4]}]', "entry 1"),
        ("a.json", '[{"image_id": 3, "bbox": [1, 2, 3, 4]}, {"image_id": true, "bbox": [1, 2, 3, 4]}]', "entry 2"),
        ("a.json", '[{"image_id": 3, "bbox": [1, 2, 0, 4]}]', "entry 1 has no size"),
        ("a.json", '[{"image_id": 3, "bbox": [1, 2, 3, 4], "score": "high"}]', "score"),
        ("a.json", '[{"image_id": 3, "bbox": [1, 2, 3, 4], "category_id": 0}]', "none of its entries is of category 1.*of 0;"),
        ("a.json", '{"images": [], "annotations": [{"image_id": 3, "bbox": [1, 2, 3, 4]}]}', "COCO"),
        ("a.csv", "image,x,y,w,h\na.jpg,1,2,3,4\n", "'width'"),
        ("a.csv", "image,x,y,width,height\na.jpg,1,2,3\n", "line 2"),
        ("a.csv", "image,x,y,width,height\na.jpg,1,2,3,4\na.jpg,1,2,wide,4\n", "line 3"),
        ("a.csv", "image,x,y,width,height\na.jpg,1,2,-3,4\n", "no size"),
        ("a.csv", "image,x,y,width,height\n,1,2,3,4\n", "no picture"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(PosecovError, match=said) as caught:
        read_boxes(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


RESULTS = [
    {"image_id": 397133, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9},
    {"image_id": 397133, "category_id": 18, "bbox": [9, 9, 3, 4], "score": 0.9},
    {"image_id": 397133, "category_id": 1, "bbox": [5, 6, 7, 8], "score": 0.3},
    {"image_id": 397133, "category_id": 1, "bbox": [0, 0, 0, 0], "score": 0.01},
    {"image_id": 7, "category_id": 1, "bbox": [9, 9, 3, 4], "score": 0.29},
    {"image_id": "portrait", "category_id": 1, "bbox": [1, 1, 2, 2], "score": 1},
    {"image_id": "x/b.jpg", "category_id": 1, "bbox": [2, 2, 2, 2], "score": 1},
]


def test_detection_results_are_chosen_by_score_and_category(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RESULTS))
    boxes = read_boxes(path)
    for picture in ("000000397133.jpg", "val/COCO_val2014_000000397133.png"):
        np.testing.assert_array_equal(boxes_of(boxes, picture), [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert boxes_of(boxes, "img_0007.jpg").shape == (0, 4)  # Named, but with nothing that counts: nobody is there.
    np.testing.assert_array_equal(boxes_of(boxes, "portrait.jpg"), [[1, 1, 2, 2]])
    np.testing.assert_array_equal(boxes_of(boxes, "x/b.jpg"), [[2, 2, 2, 2]])
    for picture in ("397134.jpg", "397133b.jpg", "y/b.jpg", "1397133.jpg"):
        assert boxes_of(boxes, picture) is None
    np.testing.assert_array_equal(boxes_of(read_boxes(path, threshold=0.5), "397133.jpg"), [[1, 2, 3, 4]])
    np.testing.assert_array_equal(boxes_of(read_boxes(path, category=18), "397133.jpg"), [[9, 9, 3, 4]])


def test_a_threshold_is_for_results(tmp_path):
    path = tmp_path / "mapping.json"
    path.write_text(FORMS["mapping.json"])
    for options in ({"threshold": 0.5}, {"category": 1}):
        with pytest.raises(PosecovError, match="COCO detection results"):
            read_boxes(path, **options)


def test_ids_that_fit_no_picture_or_several_are_said():
    boxes = {"7": np.zeros((1, 4)), "8": np.zeros((1, 4))}
    check_ids("r.json", boxes, [Path("0007.jpg"), Path("other.jpg")])
    check_ids("r.json", {"a.jpg": np.zeros((1, 4))}, [Path("b.jpg")])
    with pytest.raises(PosecovError, match=r"r\.json: its image ids 7, 8 match none"):
        check_ids("r.json", boxes, [Path("a.jpg"), Path("9.jpg")])
    with pytest.raises(PosecovError, match=r"id 7 may be 0007\.jpg or b/img7\.jpg"):
        check_ids("r.json", boxes, [Path("0007.jpg"), Path("b/img7.jpg")])


def test_one_name_among_ids_makes_it_no_file_of_ids():
    check_ids("r.json", {"7": np.zeros((1, 4)), "a.jpg": np.zeros((1, 4))}, [Path("other.jpg")])


def test_blanks_after_commas_belong_to_no_name(tmp_path):
    (tmp_path / "table.csv").write_text('x, y, width, height, image\n1, 2, 3, 4, a.jpg\n5, 6, 7, 8, "b, c.jpg"\n')
    boxes = read_boxes(tmp_path / "table.csv")
    assert list(boxes) == ["a.jpg", "b, c.jpg"]
    np.testing.assert_array_equal(boxes["b, c.jpg"], [[5, 6, 7, 8]])


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "picture.json").write_bytes(b"\xff\xd8\xff\xe0")
    for name, said in (("missing.json", "no such file"), ("picture.json", "cannot read"), (".", "folder")):
        with pytest.raises(PosecovError, match=said):
            read_boxes(tmp_path / name)


def test_the_longest_name_wins(tmp_path):
    names = ("a.jpg", "x/a.jpg", "y/a.jpg", (tmp_path / "z" / "a.jpg").as_posix())
    boxes = {name: np.full((1, 4), i) for i, name in enumerate(names)}
    for folder, expected in (("w", 0), ("x", 1), ("y", 2), ("z", 3)):
        assert boxes_of(boxes, tmp_path / folder / "a.jpg")[0, 0] == expected
    assert boxes_of(boxes, tmp_path / "b.jpg") is None
    assert boxes_of(boxes, tmp_path / "xa.jpg") is None
    whole = (tmp_path / "x" / "a.jpg").as_posix().removeprefix("/")
    assert boxes_of(boxes | {whole: np.full((1, 4), 4)}, tmp_path / "x" / "a.jpg")[0, 0] == 4


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps({"a.jpg": [[1, 2, 10**400, 4]]})),
        ("a.json", '{"a.jpg": [[1, 2, 1e999, 4]]}'),
        ("a.csv", f"image,x,y,width,height\n{'x' * 200_000},1,2,3,4\n"),
        ("a.csv", "image,x,y,width,height\na.jpg,1,2,inf,4\n"),
        ("a.csv", '"' + "x" * 200_000),
    ],
)
def test_numbers_and_names_beyond_all_bounds(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(PosecovError) as caught:
        read_boxes(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_an_annotation_without_a_box_is_named(tmp_path):
    path = tmp_path / "dogs.json"
    path.write_text(
        json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "keypoints": []}]})
    )
    with pytest.raises(PosecovError, match="annotation 1 has no 'bbox'"):
        read_boxes(path)


def test_boxes_smaller_than_a_pixel_are_boxes(tmp_path):
    (tmp_path / "a.json").write_text('{"a.jpg": [[1, 2, 0.5, 0.25]]}')
    np.testing.assert_array_equal(read_boxes(tmp_path / "a.json")["a.jpg"], [[1, 2, 0.5, 0.25]])
