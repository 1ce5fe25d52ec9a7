import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tiny_model import EXCHANGING, METADATA, SIZE, WEIGHTS, write_model

from posecov import PoseEstimator
from posecov.errors import PosecovError
from posecov.geometry import crop_map, warp
from posecov.learn.variants.cropping import cropping
from posecov.learn.variants.graph import metadata_of
from posecov.learn.variants.whole import whole
from posecov.model import PoseModel

BOXES = {
    "inside": [90.0, 60.0, 120.0, 110.0],
    "beyond the edges": [-60.5, -30.0, 300.0, 200.0],
    "smaller than the crop": [130.25, 80.5, 21.0, 30.0],
    "outside": [900.0, 900.0, 50.0, 40.0],
}


def run(model, picture, box):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = {"picture": np.ascontiguousarray(picture[..., ::-1]), "box": np.array(box, dtype=np.float32)}
    return dict(zip(names, session.run(names, given), strict=True))


def photo(scale):
    skimage = pytest.importorskip("skimage")
    picture = np.ascontiguousarray(skimage.data.astronaut()[:300, 60:380, ::-1])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.7, 4.0])
@pytest.mark.parametrize("where", BOXES)
def test_crops_are_those_of_the_library(where, scale):
    picture, box = photo(scale), np.float32(scale) * np.array(BOXES[where], dtype=np.float32)
    found = run(cropping(METADATA), picture, box)
    similarity = crop_map(box, SIZE, METADATA.padding)
    expected = warp(picture, similarity, SIZE)[..., ::-1].transpose(2, 0, 1).astype(np.float64)
    grey = found["image"][0].astype(np.float64) * 128 + 127
    # Sums in another order may fall on the other side of a half.
    assert np.abs(grey - expected).max() < 1.01
    assert np.abs(grey - expected).mean() < 0.01
    np.testing.assert_allclose(found["moved"], similarity.offset, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(found["scaled"], similarity.scale, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("mixture", [False, True])
def test_outputs_are_those_of_the_estimator(tmp_path, mixture, scale):
    options = {"metadata": EXCHANGING, "weights": WEIGHTS} if mixture else {}
    estimator = PoseEstimator(write_model(tmp_path / "m.onnx", **options), threads=1)
    model = whole(onnx.load(str(tmp_path / "m.onnx")))
    picture, box = photo(scale), scale * np.array(BOXES["beyond the edges"])
    found, expected = run(model, picture, box), estimator.outputs(picture, box[None])
    assert list(found) == list(expected)
    np.testing.assert_allclose(found["keypoints"], expected["keypoints"][0], atol=0.02 * scale)
    for name in set(found) - {"keypoints"}:
        np.testing.assert_allclose(found[name], expected[name][0], rtol=1e-4, atol=1e-5)


def test_a_shipped_model_on_a_photo_of_several_sizes():
    estimator = PoseEstimator("tiny", threads=1)
    model = whole(onnx.load(str(estimator.model.path)))
    apart = []
    for scale in (0.6, 1.0, 2.5):
        picture, box = photo(scale), scale * np.array([20.0, 10.0, 260.0, 320.0])
        shown = min(crop_map(box, estimator.metadata.input_size, estimator.metadata.padding).scale, 1.0)
        distance = run(model, picture, box)["keypoints"] - estimator.predict(picture, box[None])[0][0]
        apart.append(shown * np.linalg.norm(distance, axis=-1))
    # The legs are not in the picture: one of them may be taken for another place.
    assert np.mean(np.array(apart) < 0.5) > 0.95


def test_it_says_what_it_is_and_posecov_says_what_to_open_instead(tmp_path):
    write_model(tmp_path / "m.onnx")
    model = whole(onnx.load(str(tmp_path / "m.onnx")))
    assert metadata_of(model).description == {"variant": "whole"}
    onnx.save(model, str(tmp_path / "m-whole.onnx"))
    with pytest.raises(PosecovError, match=r"m-whole\.onnx: has the crop map inside.*without -whole"):
        PoseModel(tmp_path / "m-whole.onnx")


def test_an_opset_that_is_too_old_is_refused(tmp_path):
    model = onnx.load(str(write_model(tmp_path / "m.onnx")))
    model.opset_import[0].version = 16
    with pytest.raises(PosecovError, match="has opset 16, the crop map needs 18"):
        whole(model)
