"""Models that need more than themselves are refused before ONNX Runtime sees them."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from posecov.detectors import PersonDetector
from posecov.errors import PosecovError
from posecov.model import PoseModel
from posecov.onnx_file import Unusable, look_through


@pytest.fixture
def unopened(monkeypatch):
    """ONNX Runtime must not be asked."""

    def opened(*_, **__):
        pytest.fail("ONNX Runtime was given the file")

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)


def network(nodes=(), *, location=None, domain="custom", functions=(), **entries):
    """x + w, with weights elsewhere when there is a location."""
    weights = numpy_helper.from_array(np.ones((1, 3, 8, 8), np.float32), "w")
    if location is not None:
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            weights.external_data.add(key=key, value=value)
    sides = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])
    nodes = [*nodes, helper.make_node("Add", ["x", "w"], ["y"])]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(domain, 1)]
    graph = helper.make_graph(nodes, "graph", [sides], [result], [weights])
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))


def refusals(path):
    """What both kinds of networks say."""
    for kind in (PoseModel, PersonDetector):
        with pytest.raises(PosecovError, match="not a model that ONNX Runtime can open") as caught:
            kind(path, threads=1)
        assert str(caught.value).startswith(f"{path}: ")
        yield str(caught.value)


@pytest.mark.parametrize(
    "location",
    ["../w.data", "a/../../w.data", "..\\w.data", "{folder}/w.data", "C:\\w.data", "//host/w", "linked.data", "down/w.data"],
)
def test_weights_from_elsewhere(tmp_path, unopened, location):
    (tmp_path / "w.data").write_bytes(bytes(768))
    models = tmp_path / "models"
    models.mkdir()
    (models / "linked.data").symlink_to(tmp_path / "w.data")
    (models / "down").symlink_to(tmp_path)
    onnx.save(network(location=location.format(folder=tmp_path)), str(models / "m.onnx"))
    for said in refusals(models / "m.onnx"):
        assert "outside its folder" in said or "link out of its folder" in said or "its weights are in another file" in said


@pytest.mark.parametrize("location", ["missing.data", "", ".", "*/_ORT_MEM_ADDR_/*"])
def test_weights_that_are_nowhere(tmp_path, unopened, location):
    onnx.save(network(location=location), str(tmp_path / "m.onnx"))
    assert all("second file" in said or "another file" in said for said in refusals(tmp_path / "m.onnx"))


def test_only_detectors_may_have_weights_beside_them(tmp_path):
    path = tmp_path / "m.onnx"
    (tmp_path / "w.data").write_bytes(bytes(768))
    onnx.save(network(location="w.data", offset="0", length="768"), str(path))
    look_through(path, beside=True)
    with pytest.raises(PosecovError, match="its weights are in another file"):
        PoseModel(path, threads=1)
    for entries in ({"length": "769"}, {"offset": "-1"}, {"offset": "x"}, {"offset": "9" * 30}):
        onnx.save(network(location="w.data", **entries), str(path))
        with pytest.raises(Unusable, match="beyond the end"):
            look_through(path, beside=True)


def test_weights_in_attributes_of_nested_graphs(tmp_path, unopened):
    inner = network(location="../w.data").graph.initializer[0]
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=inner)], "branch", [], [])
    node = helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch)
    onnx.save(network([node]), str(tmp_path / "m.onnx"))
    assert all("w.data" in said for said in refusals(tmp_path / "m.onnx"))


def test_operators_of_strangers(tmp_path, unopened):
    node = helper.make_node("Steal", ["x"], ["z"], domain="custom")
    branch = helper.make_graph([node], "branch", [], [])
    nested = helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch)
    engine = helper.make_node("EPContext", ["x"], ["z"], domain="com.microsoft")
    for number, (wrong, said) in enumerate(
        [(node, "custom:Steal"), (nested, "custom:Steal"), (engine, "com.microsoft:EPContext")]
    ):
        path = tmp_path / f"{number}.onnx"
        onnx.save(network([wrong]), str(path))
        assert all(f"needs the operator {said}" in line for line in refusals(path))


def test_functions_in_the_file_are_no_strangers(tmp_path):
    function = helper.make_function(
        "custom", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    node = helper.make_node("Twice", ["x"], ["z"], domain="custom")
    onnx.save(network([node], functions=[function]), str(tmp_path / "m.onnx"))
    look_through(tmp_path / "m.onnx", beside=False)


def test_damage_and_depth(tmp_path, unopened):
    path = tmp_path / "m.onnx"
    for content in (b"", b"\x3a\xff\xff\xff\xff\x0f", b"\x80", b"\x3b", b"\x00\x00", b"\xff" * 40):
        path.write_bytes(content)
        assert len(list(refusals(path))) == 2
    graph = helper.make_graph([], "g", [], [])
    for _ in range(15):
        graph = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=graph)], "g", [], [])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert all("nested too deeply" in said for said in refusals(path))


def test_names_and_sizes_in_metadata(tmp_path):
    from tiny_model import METADATA, write_model

    text = METADATA.to_json()
    for wrong, said in ((text.replace('"tiny"', '"../../tiny"', 1), "no file can be called"),
                        (text.replace('"input_size": 64', '"input_size": 1000000', 1), "from 1 to 4096"),
                        ("[" * 10_000, "not valid JSON")):  # fmt: skip
        with pytest.raises(PosecovError, match=said):
            PoseModel(write_model(tmp_path / "m.onnx", wrong), threads=1)
