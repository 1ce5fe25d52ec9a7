import dataclasses
import math

import numpy as np
import onnx
import pytest
from conv_model import write_conv_model
from onnx import TensorProto
from tiny_model import write_model

from posecov import resources
from posecov.errors import PosecovError
from posecov.estimator import SHIPPED
from posecov.learn.datasets import read_datasets
from posecov.learn.variants import judging, making
from posecov.learn.variants.graph import metadata_of, read_model, take_apart
from posecov.learn.variants.half import half
from posecov.learn.variants.integer import Recipe, integer
from posecov.learn.variants.judging import Change, Figures, change
from posecov.learn.variants.making import Job, make_variants
from posecov.learn.variants.people import crops_of, final_people, held_out
from posecov.learn.variants.table import remarks, table
from posecov.model import PoseModel
from posecov.skeleton import load_skeleton


@pytest.fixture(scope="module")
def float_model(tmp_path_factory):
    return write_conv_model(tmp_path_factory.mktemp("variants") / "net.onnx")


@pytest.fixture(scope="module")
def parts(float_model):
    return take_apart(read_model(float_model))


@pytest.fixture(scope="module")
def people(data_root):
    return read_datasets(["lsp"], data_root)


@pytest.fixture(scope="module")
def crops(people, float_model):
    return crops_of(people[:12], metadata_of(read_model(float_model))).crops


def written(model, folder):
    path = folder / "made.onnx"
    onnx.save(model, str(path))
    return path


def weight_types(model, wanted):
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {kinds.get(node.input[1]) for node in model.graph.node if node.op_type == "Conv" and wanted(node)}


def shipped(name):
    return resources.find(SHIPPED[name])


@pytest.mark.parametrize("name", ["net", *SHIPPED])
def test_heads_begin_at_the_last_convolution(float_model, name):
    parts = take_apart(read_model(float_model if name == "net" else shipped(name)))
    convolutions = [node for node in parts.model.graph.node if node.op_type == "Conv"]
    assert [node.name for node in parts.heads if node.op_type == "Conv"] == [convolutions[-1].name]
    moments = {"LogSoftmax", "Softmax", "Gemm", "ArgMax", "Exp", "Log"}
    assert moments & {node.op_type for node in parts.heads}
    assert not moments & {node.op_type for node in parts.body.graph.node}
    assert len(parts.body.graph.node) + len(parts.heads) == len(parts.model.graph.node)
    assert len(parts.body.graph.output) == (1 if name == "net" else 2)


def test_names_of_nodes_do_not_matter(float_model, parts):
    model = read_model(float_model)
    for node in model.graph.node:
        node.name = ""
    again = take_apart(model)
    assert [node.op_type for node in again.body.graph.node] == [node.op_type for node in parts.body.graph.node]


def test_put_together_again_it_is_the_same(parts, float_model, crops, tmp_path):
    same = PoseModel(written(parts.with_body(parts.body), tmp_path), threads=1).outputs(crops)
    for name, expected in PoseModel(float_model, threads=1).outputs(crops).items():
        np.testing.assert_allclose(same[name], expected, rtol=1e-5, atol=1e-4)


def test_half_keeps_heads_and_interface_in_float32(parts, float_model, crops, tmp_path):
    model, body = half(parts)
    assert weight_types(body, lambda _: True) == {TensorProto.FLOAT16}
    assert weight_types(model, lambda node: not node.name.startswith("body/")) == {TensorProto.FLOAT}
    values = [*model.graph.input, *model.graph.output]
    assert {value.type.tensor_type.elem_type for value in values} == {TensorProto.FLOAT}
    found, expected = (PoseModel(p, threads=1).outputs(crops) for p in (written(model, tmp_path), float_model))
    moved = np.linalg.norm(found["keypoints"] - expected["keypoints"], axis=-1)
    assert 0 < np.median(moved) < 0.1
    sizes = [sum(len(tensor.raw_data) for tensor in part.graph.initializer) for part in (body, parts.body)]
    assert 2 * sizes[0] == sizes[1]


def test_variants_say_what_they_are_and_forget_what_torch_had_got(parts, float_model, crops):
    assert "reference" in metadata_of(read_model(float_model)).description
    for model, kind in ((half(parts)[0], "float16"), (integer(parts, crops, Recipe(), "all")[0], "int8")):
        metadata = metadata_of(model)
        assert metadata.description["variant"] == kind
        assert metadata.description["calibrated"] is False
        assert "reference" not in metadata.description
        plain = dataclasses.replace(metadata, description={})
        assert plain == dataclasses.replace(metadata_of(read_model(float_model)), description={})


def test_integer_quantises_what_the_recipe_says(parts, float_model, crops, tmp_path):
    """A weight that is an initialiser is float; one behind a DequantizeLinear is not."""
    every, _ = integer(parts, crops, Recipe())
    some, _ = integer(parts, crops, Recipe(float_first=2, float_last=1))

    def floats(model):
        kinds = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
        convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
        return [number for number, node in enumerate(convolutions) if node.input[1] in kinds], len(convolutions)

    left, count = floats(every)
    assert left == [count - 1]
    assert floats(some)[0] == [0, 1, count - 2, count - 1]
    outputs = PoseModel(written(every, tmp_path), threads=1).outputs(crops)
    assert np.median(np.linalg.norm(outputs["keypoints"] - PoseModel(float_model).outputs(crops)["keypoints"], axis=-1)) < 3


def test_integer_ranges_come_from_the_crops(parts, crops):
    black = integer(parts, np.zeros_like(crops), Recipe(crops=4))[0]
    seen = integer(parts, crops, Recipe(crops=4))[0]
    assert black.SerializeToString() != seen.SerializeToString()


def test_models_that_have_no_variants(parts, tmp_path):
    with pytest.raises(PosecovError, match="no backbone of convolutions"):
        take_apart(read_model(write_model(tmp_path / "plain.onnx")), "plain.onnx")
    with pytest.raises(PosecovError, match=r"made\.onnx: is a variant already \(float16\)"):
        read_model(written(half(parts)[0], tmp_path))
    with pytest.raises(PosecovError, match="no posecov metadata"):
        read_model(write_model(tmp_path / "other.onnx", None))
    with pytest.raises(PosecovError, match=r"nothing\.onnx: no such file"):
        read_model(tmp_path / "nothing.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(PosecovError, match=r"text\.onnx: not a readable ONNX file"):
        read_model(tmp_path / "text.onnx")


GOOD = Change(pck=0.0, nll=0.0, coverage=0.0, near=1.0, usual=0.0, largest=0.0)


@pytest.mark.parametrize(
    ("worse", "said"),
    [
        ({"pck": -0.011}, "PCK fell by 1.10 points"),
        ({"pck": math.nan}, "PCK"),
        ({"nll": 1.1}, "NLL grew by 1.10 nats"),
        ({"nll": math.nan}, "NLL"),
        ({"coverage": 0.04}, "coverage changed by 4.0 points"),
        ({"near": 0.9}, "90.0 % of the keypoints"),
    ],
)
def test_what_is_refused(worse, said):
    assert said in dataclasses.replace(GOOD, **worse).refusal(exact=True)
    assert not GOOD.refusal(exact=True)
    assert not dataclasses.replace(GOOD, near=0.5, pck=-0.009, nll=0.9, coverage=0.03).refusal()


def test_changes_are_differences():
    points = np.zeros((2, 5, 2))
    old = Figures(0.8, 80.0, (0.5, 0.7, 0.9, 0.95), points)
    moved = points.copy()
    moved[0, 0] = 3, 4
    found = change(Figures(0.79, 80.5, (0.5, 0.68, 0.9, 0.96), moved), old)
    assert (found.pck, found.nll, found.coverage) == (pytest.approx(-0.01), pytest.approx(0.5), pytest.approx(0.02))
    assert (found.near, found.largest) == (0.9, 5.0)


def test_files_are_written_and_tables_say_so(float_model, people, tmp_path, monkeypatch):
    for name in ("PCK_LOSS", "NLL_LOSS", "COVERAGE_CHANGE"):
        monkeypatch.setattr(judging, name, 1e3)  # Random weights are no model to lose anything of.
    job = Job(people[:10], people[10:20], people[20:24], recipes=("all", "stem-float"), whole=True, repeats=2)
    rows = make_variants(float_model, tmp_path, job)
    assert [(row.variant, row.recipe) for row in rows] == [
        ("float32", ""),
        ("float16", ""),
        ("int8", "all"),
        ("int8", "stem-float"),
    ]
    taken = [row for row in rows if row.file]
    assert sorted(row.variant for row in taken) == ["float16", "float32", "int8"]
    assert min(row.milliseconds for row in rows if row.variant == "int8") == taken[-1].milliseconds
    files = {path.name for path in tmp_path.iterdir()}
    plain = {"net-float16.onnx", "net-int8.onnx"}
    assert files == plain | {"net-whole.onnx", "net-float16-whole.onnx", "net-int8-whole.onnx"}
    for name in plain:
        opened = PoseModel(tmp_path / name, threads=1)
        assert len(opened.metadata.description["variant_of"]) == 64
    assert len(table(rows, test=False).splitlines()) == 2 + 4
    assert len(table(rows, test=True).splitlines()) == 2 + 3
    assert sum("crop map inside" in line for line in remarks(rows)) == 3
    assert sum("another is faster" in line for line in remarks(rows)) == 1
    assert rows[1].plain()["test"]["pck"] == rows[1].test[0].pck


def test_what_is_refused_is_not_written(float_model, people, tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "PCK_LOSS", -2.0)
    rows = make_variants(float_model, tmp_path, Job(people[:4], people[4:8], make=("float16",), repeats=1))
    assert rows[1].refused
    assert not rows[1].file
    assert any("refused: PCK fell" in line for line in remarks(rows))
    assert not list(tmp_path.iterdir())


def test_a_crop_map_that_disagrees_is_not_written(float_model, people, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "differences", lambda *_: np.full((4, 14), 0.6))
    with pytest.raises(PosecovError, match=r"net-whole\.onnx: not written, since only 0\.0 %"):
        make_variants(float_model, tmp_path, Job(people[:4], people[4:8], make=(), whole=True, repeats=1))
    assert not list(tmp_path.iterdir())


def test_an_unknown_recipe_is_named(float_model, people, tmp_path):
    with pytest.raises(PosecovError, match=r"recipe 'magic'.*stem-float"):
        make_variants(float_model, tmp_path, Job(people[:4], people[4:8], recipes=("magic",)))


def test_held_out_people_are_those_of_training(data_root):
    skeleton = load_skeleton("lsp14")
    training, held = held_out(["lsp"], data_root, skeleton, 10)
    assert len(held) == 10
    assert not {record.name for record in training} & {record.name for record in held}
    tested = {record.image for record in final_people("lsp", data_root, skeleton)}
    assert not tested & {record.image for record in [*training, *held]}
