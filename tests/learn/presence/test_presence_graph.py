import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conv_model import METADATA, SIZE, write_conv_model
from onnx import numpy_helper
from tiny_model import write_model

from posecov.errors import PosecovError
from posecov.learn.presence.graph import FEATURES, with_features, with_judge, without_judge
from posecov.learn.presence.judge import CLIP, Judge
from posecov.learn.variants.graph import metadata_of, read_model, take_apart
from posecov.learn.variants.half import half
from posecov.learn.variants.integer import Recipe, integer
from posecov.learn.variants.whole import whole
from posecov.model import PoseModel

JOINTS, COMPONENTS, CHANNELS = 14, 8, 24
COUNT = 2 * CHANNELS + 2 * JOINTS + 2 * JOINTS + COMPONENTS


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_conv_model(tmp_path_factory.mktemp("presence") / "net.onnx")


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def features(path, crops):
    return run(with_features(read_model(path)), crops)[FEATURES]


@pytest.fixture(scope="module")
def judge(features):
    rng = np.random.default_rng(2)
    return Judge(
        features.mean(axis=0),
        features.std(axis=0) + 0.1,
        rng.normal(size=(COUNT, 6)) / 10,
        rng.normal(size=6),
        rng.normal(size=6),
        0.3,
    )


def run(model, crops):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = ((crops[..., ::-1].transpose(0, 3, 1, 2) - 127.0) / 128.0).astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def written(model, folder):
    onnx.save(model, str(folder / "made.onnx"))
    return folder / "made.onnx"


def test_features_are_what_lies_below_the_heads_and_what_the_model_says(path, crops, features):
    model = read_model(path)
    model.graph.output.append(onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["N", None, None, None]))
    outputs = run(model, crops)
    deviations = np.log(np.diagonal(outputs["scatter"], axis1=1, axis2=2)) / 2
    expected = [
        outputs["features"].mean(axis=(2, 3)),
        outputs["features"].max(axis=(2, 3)),
        outputs["keypoints"].reshape(5, -1) / SIZE - 0.5,
        deviations,
        outputs["weights"],
    ]
    np.testing.assert_allclose(features, np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-6)
    assert features.shape == (5, COUNT)


def test_the_graph_says_what_the_judge_says_and_all_else_stays_bit_for_bit(path, crops, features, judge, tmp_path):
    made = with_judge(read_model(path), judge)
    found, before = (PoseModel(file, threads=1).outputs(crops) for file in (written(made, tmp_path), path))
    assert set(found) == {*before, "presence"}
    for name, expected in before.items():
        np.testing.assert_array_equal(found[name], expected)
    np.testing.assert_allclose(found["presence"], judge.probability(features), atol=1e-5)
    assert np.ptp(found["presence"]) > 0.01


def test_features_far_out_are_clipped(path, crops, judge, features, tmp_path):
    narrow = Judge(judge.mean + 100, judge.scale * 1e-3, judge.first, judge.first_bias, judge.second, 0.0)
    outputs = PoseModel(written(with_judge(read_model(path), narrow), tmp_path), threads=1).outputs(crops)
    clipped = Judge(np.full(COUNT, CLIP), np.ones(COUNT), judge.first, judge.first_bias, judge.second, 0.0)
    expected = clipped.probability(np.zeros((1, COUNT)))
    np.testing.assert_allclose(outputs["presence"], np.repeat(expected, 5), atol=1e-5)


def test_a_judge_is_replaced_and_taken_away_again(path, judge):
    model = read_model(path)
    first = with_judge(model, judge.calibrated(2.0, 1.0))
    assert with_judge(first, judge).SerializeToString() == with_judge(model, judge).SerializeToString()
    assert without_judge(first).SerializeToString() == model.SerializeToString()


def test_facts_stand_in_the_description_and_the_rest_of_it_stays(path, judge):
    made = with_judge(read_model(path), judge, {"scenes": 3})
    assert metadata_of(made).description == METADATA.description | {"presence": {"scenes": 3}}
    again = json.loads(metadata_of(made).to_json())
    assert again["format"] == 2


def test_variants_keep_it_in_float32(path, crops, judge, tmp_path):
    made = with_judge(read_model(path), judge)
    expected = PoseModel(written(made, tmp_path), threads=1).outputs(crops)["presence"]
    parts = take_apart(made)
    for variant, near in ((half(parts)[0], 0.01), (integer(parts, crops, Recipe())[0], 0.15)):
        found = PoseModel(written(variant, tmp_path), threads=1).outputs(crops)["presence"]
        assert 0 < np.abs(found - expected).max() < near
        mine = [tensor for tensor in variant.graph.initializer if tensor.name.startswith("presence/")]
        assert {numpy_helper.to_array(tensor).dtype for tensor in mine} == {np.dtype(np.float32), np.dtype(np.int64)}


def test_with_the_crop_map_inside_it_is_one_number(path, judge):
    session = ort.InferenceSession(
        whole(with_judge(read_model(path), judge)).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    picture = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    (found,) = session.run(["presence"], {"picture": picture, "box": np.array([10, 5, 40, 60], np.float32)})
    assert found.shape == ()
    assert 0 < found < 1
    assert "presence" not in [output.name for output in ort_outputs(whole(read_model(path)))]


def ort_outputs(model):
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).get_outputs()


def test_models_that_cannot_have_one(path, judge, tmp_path):
    with pytest.raises(PosecovError, match=r"plain\.onnx: has no backbone of convolutions"):
        with_features(read_model(write_model(tmp_path / "plain.onnx")), "plain.onnx")
    old = read_model(path)
    old.opset_import[0].version = 17
    with pytest.raises(PosecovError, match=r"net: has opset 17, a judge needs 18"):
        with_features(old, "net")


@pytest.mark.parametrize("wrong", ["shape", "range"])
def test_an_output_of_that_name_that_is_something_else_is_refused(path, judge, crops, tmp_path, wrong):
    made = with_judge(read_model(path), judge)
    last = next(node for node in made.graph.node if "presence" in node.output)
    if wrong == "shape":
        last.op_type = "Identity"
        del last.input[1:]
        made.graph.output[-1].type.tensor_type.shape.dim.add().dim_value = 1
        with pytest.raises(PosecovError, match="'presence' is tensor"):
            PoseModel(written(made, tmp_path))
        return
    sigmoid = next(node for node in made.graph.node if node.op_type == "Sigmoid" and node.name.startswith("presence/"))
    sigmoid.op_type = "Exp"
    second = next(tensor for tensor in made.graph.initializer if tensor.name == "presence/second_bias")
    second.CopyFrom(numpy_helper.from_array(np.array([50], np.float32), second.name))
    with pytest.raises(PosecovError, match="'presence' is no probability"):
        PoseModel(written(made, tmp_path), threads=1).outputs(crops)
