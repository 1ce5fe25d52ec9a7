from dataclasses import replace

import numpy as np
import onnx
import pytest
from tiny_model import COVARIANCE, DOTS, EXCHANGING, METADATA, SCATTER, SIZE, WEIGHTS, write_model

from posecov.errors import PosecovError
from posecov.metadata import ModelMetadata
from posecov.model import PoseModel
from posecov.skeleton import load_skeleton


def crops(count=3, seed=0):
    """Dark crops with one bright pixel a channel, at known places (count, 3, 2) in the order red, green, blue."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, SIZE, SIZE, 3), dtype=np.uint8)
    places = rng.integers(0, SIZE, size=(count, 3, 2))
    for index in range(count):
        for channel, (x, y) in enumerate(places[index]):
            images[index, y, x, 2 - channel] = 255
    return images, places


def test_crops_go_in_as_bgr_and_keypoints_come_out_in_crop_pixels(model_path):
    images, places = crops()
    keypoints, covariance = PoseModel(model_path, threads=1).predict(images)
    np.testing.assert_allclose(keypoints[:, :3], places, atol=0.01)
    np.testing.assert_allclose(covariance, np.broadcast_to(COVARIANCE, (3, 8, 8)), rtol=1e-6)


def test_pixels_are_normalised_channel_by_channel(tmp_path):
    metadata = replace(METADATA, pixel_mean=(55.0, 155.0, 205.0), pixel_std=(10.0, 20.0, 30.0))
    model = PoseModel(write_model(tmp_path / "m.onnx", metadata), threads=1)
    image = np.zeros((1, SIZE, SIZE, 3), dtype=np.uint8)
    image[0, 8, 10], image[0, 8, 50] = 255, 225  # weights 200 and 170 in red, 100 and 70 in green, 50 and 20 in blue
    keypoints, _ = model.predict(image)
    expected = [10 + 40 * 170 / 370, 10 + 40 * 70 / 170, 10 + 40 * 20 / 70]
    np.testing.assert_allclose(keypoints[0, :3, 0], expected, atol=0.01)
    first, second = 200 / 10 + 100 / 20 + 50 / 30, 170 / 10 + 70 / 20 + 20 / 30
    assert keypoints[0, 3, 0] == pytest.approx(10 + 40 * second / (first + second), abs=0.01)


def test_batches_do_not_change_results(model_path):
    images, _ = crops(7)
    model = PoseModel(model_path, threads=1)
    whole, parts = model.predict(images), model.predict(images, batch=3)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.predict(images[:0])[0].shape == (0, 4, 2)


def test_it_says_what_it_is(model_path):
    model = PoseModel(model_path, threads=1, providers=["CPUExecutionProvider"])
    assert model.metadata == METADATA
    assert model.providers == ["CPUExecutionProvider"]


def test_files_that_are_no_model(tmp_path):
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name, said in (("missing.onnx", "no such file"), ("text.onnx", "not a"), ("empty.onnx", "not a"), (".", "folder")):
        with pytest.raises(PosecovError, match=said) as caught:
            PoseModel(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(caught.value)


def test_a_cut_model(tmp_path, model_path):
    (tmp_path / "cut.onnx").write_bytes(model_path.read_bytes()[:2000])
    with pytest.raises(PosecovError, match=r"cut\.onnx"):
        PoseModel(tmp_path / "cut.onnx")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metadata": None}, "no posecov metadata"),
        ({"metadata": "{"}, "valid JSON"),
        ({"names": ("pixels", "keypoints", "covariance")}, "inputs are pixels"),
        ({"names": ("image", "points", "covariance")}, "no output 'keypoints'"),
        ({"names": ("image", "keypoints", "spread")}, "no output 'covariance'"),
        ({"metadata": replace(METADATA, input_size=32)}, r"'image' is tensor\(float\).*3, 32, 32"),
        ({"metadata": replace(METADATA, skeleton=load_skeleton("lsp14"))}, "'keypoints' is .*14, 2"),
        ({"batch": 1}, "batch size is fixed"),
    ],
)
def test_models_of_others_and_damaged_ones_are_refused(tmp_path, options, said):
    path = write_model(tmp_path / "other.onnx", **options)
    with pytest.raises(PosecovError, match=said) as caught:
        PoseModel(path, threads=1)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_mixture_has_two_more_outputs(tmp_path, model_path):
    images, places = crops(5)
    model = PoseModel(write_model(tmp_path / "m.onnx", EXCHANGING, weights=WEIGHTS), threads=1)
    outputs = model.outputs(images, batch=2)
    assert set(outputs) == {"keypoints", "covariance", "scatter", "weights"}
    np.testing.assert_allclose(outputs["keypoints"][:, :3], places, atol=0.01)
    np.testing.assert_allclose(outputs["scatter"], np.broadcast_to(SCATTER, (5, 8, 8)), rtol=1e-6)
    np.testing.assert_allclose(outputs["weights"], np.broadcast_to(WEIGHTS, (5, 2)), rtol=1e-6)
    np.testing.assert_array_equal(model.predict(images)[1], outputs["covariance"])
    assert set(PoseModel(model_path, threads=1).outputs(images)) == {"keypoints", "covariance"}


def test_a_mixture_without_its_outputs_or_with_wrong_ones_is_refused(tmp_path):
    with pytest.raises(PosecovError, match="no output 'scatter'"):
        PoseModel(write_model(tmp_path / "m.onnx", EXCHANGING), threads=1)
    with pytest.raises(PosecovError, match=r"'weights' is .*float \(N, 2\)"):
        PoseModel(write_model(tmp_path / "m.onnx", EXCHANGING, weights=np.ones(3) / 3), threads=1)
    for weights in ([1.2, -0.2], [0.5, 0.4]):
        model = PoseModel(write_model(tmp_path / "m.onnx", EXCHANGING, weights=np.array(weights)), threads=1)
        with pytest.raises(PosecovError, match=r"m\.onnx: its output 'weights' are no probabilities"):
            model.predict(crops()[0])


def test_outputs_that_are_not_finite_are_refused(tmp_path):
    model = PoseModel(write_model(tmp_path / "m.onnx", covariance=np.full((8, 8), np.nan)), threads=1)
    with pytest.raises(PosecovError, match=r"m\.onnx: its output 'covariance'"):
        model.predict(crops()[0])


def test_a_newer_model_asks_for_a_newer_posecov(tmp_path):
    path = write_model(tmp_path / "new.onnx", METADATA.to_json().replace('"format": 1', '"format": 9'))
    with pytest.raises(PosecovError, match="newer posecov"):
        PoseModel(path)


def test_a_provider_that_is_not_there_is_an_error(model_path):
    with pytest.raises(PosecovError, match="NoSuchProvider"):
        PoseModel(model_path, providers=["NoSuchProvider", "CPUExecutionProvider"])


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_silently_does_not_load_is_an_error(model_path, monkeypatch):
    # ONNX Runtime itself falls back to the CPU with no more than a warning.
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    if "CUDAExecutionProvider" in _really_loads(model_path):
        pytest.skip("CUDA works on this machine")
    with pytest.raises(PosecovError, match="CUDAExecutionProvider"):
        PoseModel(model_path, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert PoseModel(model_path).providers == ["CPUExecutionProvider"]


def _really_loads(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CUDAExecutionProvider", "CPUExecutionProvider"]).get_providers()


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_threads_must_be_a_positive_whole_number(model_path, threads):
    with pytest.raises(PosecovError, match="threads"):
        PoseModel(model_path, threads=threads)


def test_the_thread_count_reaches_onnx_runtime(model_path):
    assert PoseModel(model_path, threads=1)._session.get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize(
    "crops", [np.zeros((1, SIZE, SIZE, 3)), np.zeros((1, 32, 32, 3), np.uint8), np.zeros((SIZE, SIZE, 3), np.uint8)]
)
def test_crops_of_another_kind_are_refused(model_path, crops):
    with pytest.raises(PosecovError, match="crops must be"):
        PoseModel(model_path, threads=1).predict(crops)


def test_metadata_is_where_the_contract_says(model_path):
    properties = {p.key: p.value for p in onnx.load(str(model_path)).metadata_props}
    assert ModelMetadata.from_json(properties["posecov"]).skeleton == DOTS
