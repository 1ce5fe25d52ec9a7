"""Detectors and their results on the command line."""

import json

import cv2
import numpy as np
import pytest
from detector_graphs import write_detector

from posecov.cli import main

BOX = [140, 60, 71, 100]


@pytest.fixture
def detector(tmp_path):
    return write_detector(tmp_path / "detector.onnx", "yolov8")


@pytest.fixture
def photo(tmp_path):
    x, y, width, height = BOX
    image = np.full((240, 320, 3), 114, np.uint8)
    image[y : y + height, x : x + width] = (0, 0, 255)
    cv2.imwrite(str(tmp_path / "photo0007.png"), image)
    return tmp_path / "photo0007.png"


@pytest.fixture
def run(tmp_path, model_path, capfd):
    """Runs a command with the tiny model: exit code, lines on stdout, lines on stderr."""

    def command(name, *arguments):
        options = ["--out", str(tmp_path / "out"), "--model", str(model_path), "--threads", "1"]
        code = main([name, *map(str, arguments), *options])
        said = capfd.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return command


def people(tmp_path, name="photo0007"):
    return json.loads((tmp_path / "out" / f"{name}.json").read_text())["people"]


def test_a_detector_says_where_the_people_are(run, photo, detector, tmp_path):
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((90, 120, 3), 114, np.uint8))
    code, said, trouble = run("image", photo, tmp_path / "empty.png", "--detector", detector)
    assert (code, trouble) == (0, [])
    assert said[0].endswith("1 person")
    assert said[1].endswith("nobody found")
    (person,) = people(tmp_path)
    np.testing.assert_allclose(person["box"], BOX, atol=1)
    assert run("image", photo, "--detector", detector, "--detector-threshold", "0.95")[0] == 0
    assert people(tmp_path) == []
    assert run("image", photo, "--detector", detector, "--person-class", "1")[0] == 0
    assert abs(np.array(people(tmp_path)[0]["box"]) - BOX).max() > 20


def test_rank_takes_a_detector(run, photo, detector, tmp_path):
    code, _, trouble = run("rank", photo, "--detector", detector)
    assert (code, trouble) == (0, [])
    row = dict(zip(*(line.split(",") for line in (tmp_path / "out" / "rank.csv").read_text().splitlines()), strict=True))
    assert float(row["size"]) == pytest.approx(BOX[3], abs=1)


def test_a_detector_by_another_name(run, photo, tmp_path):
    path = write_detector(tmp_path / "d.onnx", "yolox-mmdeploy")
    assert run("image", photo, "--detector", path, "--detector-layout", "yolox-mmdeploy")[0] == 0
    np.testing.assert_allclose(people(tmp_path)[0]["box"], BOX, atol=1)


def test_detection_results_say_where_the_people_are(run, photo, tmp_path):
    results = tmp_path / "results.json"
    entries = [
        {"image_id": 7, "category_id": 1, "bbox": BOX, "score": 0.4},
        {"image_id": 7, "category_id": 3, "bbox": [1, 2, 30, 40], "score": 0.9},
    ]
    results.write_text(json.dumps(entries))
    assert run("image", photo, "--boxes", results)[0] == 0
    assert [person["box"] for person in people(tmp_path)] == [BOX]
    assert run("image", photo, "--boxes", results, "--detector-threshold", "0.5")[0] == 0
    assert people(tmp_path) == []
    assert run("image", photo, "--boxes", results, "--person-class", "3")[0] == 0
    assert [person["box"] for person in people(tmp_path)] == [[1, 2, 30, 40]]
    results.write_text(json.dumps([entries[0] | {"image_id": 8}]))
    code, said, trouble = run("image", photo, "--boxes", results)
    assert (code, said, len(trouble)) == (2, [], 1)
    assert "image ids 8 match none of the pictures" in trouble[0]


@pytest.mark.parametrize("command", ["image", "rank"])
def test_what_does_not_go_together_is_one_line_and_nothing_starts(command, run, photo, detector, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({photo.name: [BOX]}))
    for options, said in (
        (["--boxes", boxes, "--detector", detector], "--boxes and --detector"),
        (["--boxes", boxes, "--detector-threshold", "0.5"], "COCO detection results"),
        (["--boxes", boxes, "--detector-layout", "yolox"], "--detector-layout needs --detector"),
        (["--detector-threshold", "0.5"], "--detector-threshold needs --detector"),
        (["--person-class", "0"], "--person-class needs --detector"),
        (["--detector", detector, "--detector-threshold", "1"], "--detector-threshold must lie between 0 and 1"),
        (["--detector", detector, "--person-class", "9"], "no class 9"),
        (["--detector", detector, "--detector-layout", "yolo"], "known are yolox"),
        (["--detector", tmp_path / "missing.onnx"], "missing.onnx: no such file"),
        (["--detector", boxes], "not a model that ONNX Runtime can open"),
    ):
        code, lines, trouble = run(command, photo, *options)
        assert (code, lines, len(trouble)) == (2, [], 1)
        assert said in trouble[0]
    assert not (tmp_path / "out").exists()
