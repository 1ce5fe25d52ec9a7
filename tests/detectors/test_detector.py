import json

import cv2
import numpy as np
import onnx
import pytest
from detector_graphs import FED, LEAVES_TWINS, PERSON, write_detector
from onnx import TensorProto, helper, numpy_helper

from posecov.detectors import LAYOUTS, PersonDetector
from posecov.errors import PosecovError

# Width, height, and a box in it: x, y, width, height, edges between pixels.
PICTURES = {
    "wide": (640, 300, (420, 33, 101, 230)),
    "high": (211, 500, (20, 250, 120, 201)),
    "small": (97, 71, (40, 7, 31, 60)),
    "large": (1800, 1201, (301, 200, 400, 901)),
}
NAMES = {"names": "{0: 'person', 1: 'dog'}"}


def red_box(picture):
    width, height, (x, y, w, h) = PICTURES[picture]
    image = np.full((height, width, 3), 114, dtype=np.uint8)
    image[y : y + h, x : x + w] = (0, 0, 255)
    return image, np.array([[x, y, w, h]])


def written(folder, layout, **options):
    if layout == "rt-detr-ultralytics":
        options.setdefault("metadata", NAMES)
    return write_detector(folder / f"{layout}.onnx", layout, **options)


def opened(folder, layout, *, layout_by_name=False, **options):
    asked = layout if layout_by_name or layout == "yolox-mmdeploy" else None
    return PersonDetector(written(folder, layout, **options), threads=1, layout=asked)


def test_every_layout_is_tested():
    assert set(FED) == set(LAYOUTS)


@pytest.mark.parametrize("layout", FED)
def test_a_file_is_recognised_and_finds_the_person(tmp_path, layout):
    detector = opened(tmp_path, layout)
    assert detector.layout == layout
    assert detector.class_index == PERSON.get(layout, 0)
    for picture in PICTURES:
        image, expected = red_box(picture)
        boxes, scores = detector(image)
        assert boxes.dtype == scores.dtype == np.float64
        np.testing.assert_allclose(boxes, expected, atol=1)
        np.testing.assert_allclose(scores, [0.9], atol=1e-4)
    image[:] = 114
    boxes, scores = detector(image)
    assert (boxes.shape, scores.shape) == ((0, 4), (0,))


@pytest.mark.parametrize("layout", ["yolov8", "yolo-nms-free", "torchvision", "rf-detr", "detr", "rtmdet"])
def test_inputs_of_any_size(tmp_path, layout):
    detector = opened(tmp_path, layout, size=None, batch=None if layout == "torchvision" else "n")
    assert detector.layout == layout
    for picture in PICTURES:
        image, expected = red_box(picture)
        np.testing.assert_allclose(detector(image)[0], expected, atol=1)


def test_a_picture_by_its_path(tmp_path):
    image, expected = red_box("wide")
    cv2.imwrite(str(tmp_path / "a.png"), image)
    np.testing.assert_allclose(opened(tmp_path, "yolox")(tmp_path / "a.png")[0], expected, atol=1)
    with pytest.raises(PosecovError, match="uint8"):
        opened(tmp_path, "yolox")(image[:, :, 0])


@pytest.mark.parametrize("layout", LEAVES_TWINS)
def test_overlapping_boxes_are_one_person_up_to_the_overlap(tmp_path, layout):
    image, expected = red_box("wide")
    path = written(tmp_path, layout)
    boxes, scores = PersonDetector(path, threads=1, overlap=0.99)(image)
    np.testing.assert_allclose(scores, [0.9, 0.81], atol=1e-4)
    np.testing.assert_allclose(boxes[0], expected[0], atol=1)
    assert boxes[1, 0] > boxes[0, 0] + 1
    assert len(PersonDetector(path, threads=1, overlap=0.5)(image)[0]) == 1


def test_the_threshold_and_the_class_decide_who_counts(tmp_path):
    image, expected = red_box("wide")
    for layout in ("rtmdet", "torchvision", "detr", "yolo-nms-free"):
        path = written(tmp_path, layout)
        boxes, scores = PersonDetector(path, threads=1, threshold=0.1)(image)
        np.testing.assert_allclose(scores, [0.9, 0.2], atol=1e-4)
        np.testing.assert_allclose(boxes, np.repeat(expected, 2, axis=0), atol=1)
        assert len(PersonDetector(path, threads=1, threshold=0.92)(image)[0]) == 0
        boxes, scores = PersonDetector(path, threads=1, class_index=PERSON.get(layout, 0) + 1)(image)
        np.testing.assert_allclose(scores, [0.95], atol=1e-4)
        assert np.abs(boxes - expected).max() > 20


def test_names_in_the_file_say_which_class_is_a_person(tmp_path):
    image, expected = red_box("wide")
    for text in (
        "{0: 'dog', 1: 'Person', 2: 'cat'}",
        json.dumps({"0": "dog", "1": "person", "2": "cat"}),
        "['dog', 'person', 'a']",
    ):
        detector = opened(tmp_path, "yolov8", person=1, metadata={"names": text})
        assert detector.class_index == 1
        np.testing.assert_allclose(detector(image)[0], expected, atol=1)
    path = written(tmp_path, "yolov8", metadata={"names": "{0: 'cat', 1: 'dog'}"})
    with pytest.raises(PosecovError, match=r"none of its classes is a person; they are 0 cat, 1 dog; .*--person-class"):
        PersonDetector(path, threads=1)
    assert len(PersonDetector(path, threads=1, class_index=0)(image)[0]) == 1
    with pytest.raises(PosecovError, match="no class 7"):
        PersonDetector(path, threads=1, class_index=7)
    for text in ("what", "{0: ", "3"):
        assert opened(tmp_path, "yolov8", metadata={"names": text}).names == {}


def test_the_size_in_the_file_counts_where_any_is_taken(tmp_path):
    path = written(tmp_path, "yolov8", size=None, metadata={"names": "{0: 'person', 1: 'dog'}", "imgsz": "[320, 320]"})
    assert PersonDetector(path, threads=1).preparation.size == 320
    assert PersonDetector(path, threads=1, size=416).preparation.size == 416


def test_other_preparations_by_keyword(tmp_path):
    image, expected = red_box("high")
    path = written(tmp_path, "yolox", fed=(0, (10, 20, 30), (50, 60, 70)))
    detector = PersonDetector(path, threads=1, rgb=True, mean=(10, 20, 30), std=(50, 60, 70))
    np.testing.assert_allclose(detector(image)[0], expected, atol=1)
    for fit in ("centre", "stretch", "corner", "whole"):
        detector = PersonDetector(path, threads=1, rgb=True, mean=(10, 20, 30), std=(50, 60, 70), fit=fit)
        np.testing.assert_allclose(detector(image)[0], expected, atol=1)
    wrong = PersonDetector(path, threads=1)(image)[0]
    assert len(wrong) == 0 or np.abs(wrong - expected).max() > 5


def test_halves_bytes_and_fixed_batches(tmp_path):
    image, expected = red_box("wide")
    half = opened(tmp_path, "yolov8", kind=TensorProto.FLOAT16)
    whole = opened(tmp_path, "yolov8", kind=TensorProto.UINT8, fed=(0, (0, 0, 0), (1, 1, 1)))
    four = opened(tmp_path, "rtmdet", batch=4)
    for detector in (half, whole, four):
        np.testing.assert_allclose(detector(image)[0], expected, atol=1)


def test_outputs_without_telling_names(tmp_path):
    image, expected = red_box("wide")
    for layout in ("torchvision", "rtmdet"):
        detector = opened(tmp_path, layout, renamed=True)
        assert detector.layout == layout
        np.testing.assert_allclose(detector(image)[0], expected, atol=1)


def test_people_reach_to_the_edge_and_not_beyond(tmp_path):
    image, _ = red_box("wide")
    image[:] = (0, 0, 255)
    for layout in ("yolox", "yolov8", "torchvision"):
        boxes, _ = opened(tmp_path, layout)(image)
        np.testing.assert_allclose(boxes, [[0, 0, 640, 300]], atol=1)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= [640, 300]).all()


def test_other_yolo_exports(tmp_path):
    """YOLOv6 has an objectness of 1; networks for outlines have more columns and a map beside them."""
    image = np.full((64, 64, 3), 114, np.uint8)
    rows = np.zeros((1, 84, 7), np.float32)
    rows[..., 4] = 1
    rows[0, 3] = (20, 30, 10, 40, 1, 0.8, 0)
    detector = PersonDetector(constant(tmp_path / "v6.onnx", {"outputs": rows}), threads=1)
    assert detector.layout == "yolov5"
    np.testing.assert_allclose(detector(image)[0], [[15, 10, 10, 40]])
    columns = np.zeros((1, 4 + 2 + 32, 84), np.float32)
    columns[0, :6, 5] = (20, 30, 10, 40, 0.8, 0)
    columns[0, 6:] = 7
    path = constant(tmp_path / "seg.onnx", {"output0": columns, "output1": np.zeros((1, 32, 16, 16), np.float32)}, NAMES)
    np.testing.assert_allclose(PersonDetector(path, threads=1)(image)[0], [[15, 10, 10, 40]])
    finished = np.zeros((1, 30, 6 + 51), np.float32)
    finished[0, 0, :6] = (15, 10, 25, 50, 0.8, 0)
    path = constant(tmp_path / "pose.onnx", {"output0": finished}, {"names": "{0: 'person'}"})
    np.testing.assert_allclose(PersonDetector(path, threads=1)(image)[0], [[15, 10, 10, 40]])


def test_one_person_in_a_network_that_also_gives_keypoints(tmp_path):
    outputs = {
        "boxes": np.array([[10, 20, 30, 60]], np.float32),
        "labels": np.array([1]),
        "scores": np.array([0.9], np.float32),
        "keypoints": np.zeros((1, 17, 3), np.float32),
        "keypoints_scores": np.zeros((1, 17), np.float32),
    }
    boxes, _ = PersonDetector(constant(tmp_path / "k.onnx", outputs), threads=1)(np.zeros((64, 64, 3), np.uint8))
    np.testing.assert_allclose(boxes, [[10, 20, 20, 40]])


UNKNOWN = {
    "two tables": {"a": np.zeros((1, 20, 4), np.float32), "b": np.zeros((1, 20, 80), np.float32)},
    "a vector": {"out": np.zeros((1, 1000), np.float32)},
    "whole numbers": {"out": np.zeros((1, 20, 6), np.int64)},
    "no grid": {"out": np.zeros((1, 77, 90), np.float32)},
    "heads": {"a": np.zeros((1, 3, 8, 8, 85), np.float32), "b": np.zeros((1, 3, 4, 4, 85), np.float32)},
    "boxes at a grid": {"pred_boxes": np.zeros((1, 84, 4), np.float32), "logits": np.zeros((1, 84, 80), np.float32)},
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_layout_is_one_line_with_what_comes_out(tmp_path, name):
    path = constant(tmp_path / "u.onnx", UNKNOWN[name])
    with pytest.raises(PosecovError, match="no known layout") as caught:
        PersonDetector(path, threads=1)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    for output, array in UNKNOWN[name].items():
        assert f"{output} {tuple(array.shape)}" in said
    assert all(layout in said for layout in LAYOUTS)


def test_a_layout_by_name_must_fit(tmp_path):
    path = written(tmp_path, "rtmdet")
    for layout in ("yolox", "detr", "torchvision"):
        with pytest.raises(PosecovError, match=rf"not of the layout '{layout}'.*dets \(1, 3, 5\), labels \(1, 3\)"):
            PersonDetector(path, threads=1, layout=layout)
    with pytest.raises(PosecovError, match="yolox-decoded"):
        PersonDetector(path, threads=1, layout="yolo-x")
    for value in (7, np.nan):
        logits = constant(tmp_path / "logits.onnx", {"out": np.array([[[1, 1, 50, 50, value, 0]]], np.float32)})
        with pytest.raises(PosecovError, match=r"scores are not between 0 and 1.*'yolo-nms-free'.*--detector-layout"):
            PersonDetector(logits, threads=1)(red_box("wide")[0])
    with pytest.raises(PosecovError, match="'yolox'"):
        PersonDetector(written(tmp_path, "yolo-nms-free"), threads=1, layout="yolox")


def test_files_that_cannot_be_used(tmp_path, model_path):
    (tmp_path / "text.onnx").write_text("not a network")
    whole = written(tmp_path, "yolox").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    custom = [helper.make_node("NMSRotated", ["images"], ["out"], domain="mmdeploy")]
    save(tmp_path / "custom.onnx", custom, {"out": np.zeros((1, 5, 5), np.float32)})
    save(tmp_path / "weights.onnx", [helper.make_node("Add", ["images", "w"], ["out"])], {"out": np.ones(1)}, outside="w.data")
    (tmp_path / "w.data").unlink()
    save(tmp_path / "grey.onnx", [helper.make_node("Identity", ["images"], ["out"])], {"out": np.ones(1)}, shape=[1, 1, 64, 64])
    (tmp_path / "folder.onnx").mkdir()
    for name, said in {
        "missing.onnx": "no such file; give a detector",
        "folder.onnx": "is a folder",
        "text.onnx": "not a model that ONNX Runtime can open",
        "cut.onnx": "not a model that ONNX Runtime can open",
        "custom.onnx": "needs the operator mmdeploy:NMSRotated",
        "weights.onnx": "second file",
        "grey.onnx": r"its inputs are images \(1, 1, 64, 64\)",
    }.items():
        with pytest.raises(PosecovError, match=said) as caught:
            PersonDetector(tmp_path / name, threads=1)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)
    with pytest.raises(PosecovError, match="no known layout"):
        PersonDetector(model_path, threads=1)


@pytest.mark.parametrize("options", [{"threshold": 1.0}, {"overlap": 0.0}, {"std": 0}, {"mean": (1, 2)}, {"class_index": -1}])
def test_options_out_of_range(tmp_path, options):
    with pytest.raises(PosecovError):
        PersonDetector(written(tmp_path, "yolox"), threads=1, **options)
    with pytest.raises(PosecovError, match="no class 3"):
        PersonDetector(written(tmp_path, "yolox"), threads=1, class_index=3)


def constant(path, outputs, metadata=None):
    """A network for 64 x 64 pixels that always returns the same."""
    nodes = [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(a)) for name, a in outputs.items()]
    return save(path, nodes, outputs, metadata)


def save(path, nodes, outputs, metadata=None, *, shape=(1, 3, 64, 64), outside=None):
    kinds = {name: helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype) for name, array in outputs.items()}
    kinds = {name: TensorProto.FLOAT if kind == TensorProto.DOUBLE else kind for name, kind in kinds.items()}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
        [numpy_helper.from_array(np.ones((1, 3, 64, 64), np.float32), "w")] if outside else [],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mmdeploy", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, str(path), save_as_external_data=outside is not None, location=outside)
    return path
