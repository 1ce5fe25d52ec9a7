import pytest

from posecov import resources
from posecov.errors import PosecovError


def test_shipped_files_are_found():
    assert "keypoints" in resources.find("configs/skeletons/lsp14.yaml").read_text()


def test_the_wheel_comes_before_the_repository(tmp_path, monkeypatch):
    wheel, repository = tmp_path / "wheel", tmp_path / "repository"
    for place in (wheel, repository):
        place.mkdir()
        (place / "both.txt").touch()
    (repository / "one.txt").touch()
    monkeypatch.setattr(resources, "_PLACES", (wheel, repository))
    assert resources.find("both.txt") == wheel / "both.txt"
    assert resources.find("one.txt") == repository / "one.txt"


def test_what_does_not_ship_is_named():
    with pytest.raises(PosecovError, match=r"weights/nothing\.onnx"):
        resources.find("weights/nothing.onnx")
