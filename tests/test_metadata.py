import json
import math
from dataclasses import replace

import pytest
from tiny_model import EXCHANGING, METADATA

from posecov.errors import PosecovError
from posecov.metadata import ModelMetadata
from posecov.skeleton import load_skeleton


def test_round_trip_keeps_every_field():
    metadata = replace(METADATA, skeleton=load_skeleton("coco17"), description={"data": "LSP", "epochs": 8})
    assert ModelMetadata.from_json(metadata.to_json()) == metadata


def test_exchanges_survive_and_ask_for_a_posecov_that_knows_them():
    text = EXCHANGING.to_json()
    assert ModelMetadata.from_json(text) == EXCHANGING
    assert [exchange.name for exchange in EXCHANGING.exchanges] == ["none", "hand"]
    assert json.loads(text)["format"] == 2
    # Without exchanges an older posecov reads the file as well as this one.
    assert json.loads(METADATA.to_json())["format"] == 1


def test_the_gaussian_survives_json():
    text = replace(METADATA, degrees_of_freedom=math.inf).to_json()
    assert json.loads(text)["degrees_of_freedom"] is None
    assert math.isinf(ModelMetadata.from_json(text).degrees_of_freedom)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 3}, "newer posecov"),
        ({"format": None}, "newer posecov"),
        ({"format": True}, "newer posecov"),
        ({"exchanges": {}}, "'exchanges' must be a list"),
        ({"exchanges": [[["r_hand", "l_hand"]]]}, "'exchanges' must be objects"),
        ({"exchanges": [{"name": "none", "permutation": [0, 1, 2, 3], "more": 1}]}, "'exchanges' must be objects"),
        ({"exchanges": [{"name": "hand", "permutation": [1, 0, 2, 3]}]}, "'exchanges' must begin with"),
        ({"exchanges": [{"name": "turn", "permutation": [1, 2, 0, 3]}]}, "pairs among the 4 joints"),
        ({"exchanges": [{"name": "none", "permutation": [0, 1, 2]}]}, "pairs among the 4 joints"),
        ({"exchanges": [{"name": "none", "permutation": [0, 1, 2, "3"]}]}, "pairs among the 4 joints"),
        ({"exchanges": [{"name": n, "permutation": [0, 1, 2, 3]} for n in "ab"]}, "'exchanges' must not hold"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"name": ""}, "name"),
        ({"input_size": 0}, "input_size"),
        ({"input_size": 64.5}, "input_size"),
        ({"input_size": True}, "input_size"),
        ({"pixel_mean": [1, 2]}, "pixel_mean"),
        ({"pixel_mean": [1, 2, "x"]}, "pixel_mean"),
        ({"pixel_std": [1, 0, 1]}, "pixel_std"),
        ({"padding": -1}, "padding"),
        ({"padding": "wide"}, "padding"),
        ({"degrees_of_freedom": 2}, "degrees_of_freedom"),
        ({"degrees_of_freedom": "many"}, "degrees_of_freedom"),
        ({"skeleton": {"name": "x", "keypoints": []}}, "keypoints"),
        ({"skeleton": 3}, "skeleton"),
        ({"description": [1]}, "description"),
    ],
)
def test_wrong_fields_are_named_with_the_file(changes, said):
    fields = json.loads(METADATA.to_json()) | changes
    with pytest.raises(PosecovError, match=said) as caught:
        ModelMetadata.from_json(json.dumps(fields), "some.onnx")
    assert str(caught.value).startswith("some.onnx: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["name", "skeleton", "input_size", "pixel_mean", "pixel_std", "padding", "degrees_of_freedom"])
def test_missing_fields_are_named(key):
    fields = json.loads(METADATA.to_json())
    del fields[key]
    with pytest.raises(PosecovError, match=key):
        ModelMetadata.from_json(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null"])
def test_what_is_no_metadata_is_said(text):
    with pytest.raises(PosecovError, match=r"^some\.onnx: .*export the model again"):
        ModelMetadata.from_json(text, "some.onnx")


@pytest.mark.parametrize("changes", [{"padding": math.nan}, {"padding": -1.0}, {"description": {"x": object()}}])
def test_wrong_values_are_not_written(changes):
    with pytest.raises(PosecovError):
        replace(METADATA, **changes).to_json()
