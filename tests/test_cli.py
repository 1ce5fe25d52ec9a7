import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_images import huge_png, jpeg
from tiny_model import METADATA, POINTS, write_model

import posecov
from posecov import resources
from posecov.cli import COMMANDS, main
from posecov.estimator import DEFAULT_MODEL

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def photo(tmp_path, dots):
    cv2.imwrite(str(tmp_path / "photo.png"), dots)
    return tmp_path / "photo.png"


@pytest.fixture
def image(tmp_path, model_path, capfd):
    """Runs ``posecov image`` with the tiny model: exit code, lines on stdout, lines on stderr."""

    def run(*arguments, out=tmp_path / "out", model=model_path):
        options = ["--out", str(out), "--model", str(model), "--threads", "1"]
        code = main(["image", *map(str, arguments), *options])
        said = capfd.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return run


def test_a_picture_gives_an_overlay_and_its_poses(image, photo, tmp_path):
    code, said, trouble = image(photo, "--csv", "--mass", "0.9")
    assert (code, trouble) == (0, [])
    assert str(tmp_path / "out" / "photo.png") in said[0]
    document = json.loads((tmp_path / "out" / "photo.json").read_text())
    assert (document["image"], document["width"], document["height"]) == ("photo.png", 320, 240)
    assert (document["model"], document["mass"]) == (METADATA.name, 0.9)
    (person,) = document["people"]
    found = [[person["keypoints"][name][axis] for axis in "xy"] for name in ("r_hand", "l_hand", "head")]
    np.testing.assert_allclose(found, POINTS, atol=0.35)
    assert np.array(person["covariance"]).shape == (8, 8)
    assert all(person["keypoints"][name]["sigma"] > 0 for name in person["names"])
    overlay = cv2.imread(str(tmp_path / "out" / "photo.png"))
    assert overlay.shape == (480, 640, 3)
    assert len((tmp_path / "out" / "poses.csv").read_text().splitlines()) == 1 + 4


def test_boxes_say_where_the_people_are(image, photo, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"photo.png": [[100, 70, 90, 100], [80, 60, 130, 110]]}))
    assert image(photo, "--boxes", boxes)[0] == 0
    people = json.loads((tmp_path / "out" / "photo.json").read_text())["people"]
    assert [person["box"] for person in people] == [[100, 70, 90, 100], [80, 60, 130, 110]]
    boxes.write_text(json.dumps({"photo.png": []}))
    assert image(photo, "--boxes", boxes)[0] == 0
    assert json.loads((tmp_path / "out" / "photo.json").read_text())["people"] == []
    boxes.write_text(json.dumps({"other.png": []}))
    code, _, trouble = image(photo, "--boxes", boxes)
    assert code == 1
    assert len(trouble) == 1
    assert "photo.png" in trouble[0]


def test_a_fixed_joint_moves_the_others_and_the_overlay_shows_it(image, photo, tmp_path):
    assert image(photo, "--click")[0] == 0
    before = json.loads((tmp_path / "out" / "photo.json").read_text())["people"][0]
    plain = cv2.imread(str(tmp_path / "out" / "photo.png"))
    code, said, trouble = image(photo, "--fix", json.dumps({"head": [160, 140]}), "--labels", "--inner-mass", "0.5")
    assert (code, trouble) == (0, [])
    assert re.search(r"head fixed at the border of the \d+ % region, mean expected error of the others \d", said[0])
    after = json.loads((tmp_path / "out" / "photo.json").read_text())["people"][0]
    assert after["known"] == ["head"]
    assert [after["keypoints"]["head"][axis] for axis in "xy"] == [160, 140]
    moved = [abs(after["keypoints"][name]["x"] - before["keypoints"][name]["x"]) for name in before["names"]]
    assert min(moved) > 0.05
    assert (cv2.imread(str(tmp_path / "out" / "photo.png")) != plain).any()
    assert before["click"]["joint"] in before["names"]
    assert before["click"]["gain"] > 0
    assert image(photo, "--correlations", "head")[0] == 0
    assert (cv2.imread(str(tmp_path / "out" / "photo.png")) != plain).any()


def test_what_cannot_be_fixed_is_one_line(image, photo, tmp_path):
    for options in (["--fix", '{"nose": [1, 2]}'], ["--fix", "{"], ["--fix", '{"other.png": {}}'], ["--correlations", "nose"]):
        code, said, trouble = image(photo, *options)
        assert (code, said, len(trouble)) == (2, [], 1)
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((90, 90, 3), 40, np.uint8))
    fixes = tmp_path / "fixes.json"
    fixes.write_text(json.dumps({"empty.png": {"head": [1, 2]}}))
    code, said, trouble = image(tmp_path / "empty.png", photo, "--fix", fixes)
    assert (code, len(said), len(trouble)) == (1, 1, 1)
    assert "empty.png: joints of 1 are fixed, but nobody was found" in trouble[0]
    code, _, trouble = image(photo, "--fix", '{"head": [1, 2]}', "--correlations", "head")
    assert (code, len(trouble)) == (1, 1)


def test_nobody_is_no_failure(image, tmp_path):
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((90, 90, 3), 40, np.uint8))
    code, said, trouble = image(tmp_path / "empty.png")
    assert code == 0
    assert "nobody" in said[0]
    assert trouble == ["posecov: nobody found in 1 picture; where somebody is there, say with --boxes or --detector where"]
    assert json.loads((tmp_path / "out" / "empty.json").read_text())["people"] == []


def test_a_folder_means_its_pictures_each_once(image, dots, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "a.jpg", "b.png"):
        cv2.imwrite(str(folder / name), dots)
    (folder / "notes.txt").write_text("not a picture")
    code, said, trouble = image(folder, folder / "b.png")
    assert (code, trouble, len(said)) == (0, [], 3)
    assert sorted(p.name for p in (tmp_path / "out").glob("*.json")) == ["a_jpg.json", "a_png.json", "b.json"]


def test_results_beside_the_pictures_do_not_overwrite_them(image, photo, tmp_path):
    before = photo.read_bytes()
    assert image(photo, out=tmp_path)[0] == 0
    assert photo.read_bytes() == before
    assert (tmp_path / "photo_pose.png").exists()


BAD = {
    "missing.jpg": lambda path: None,
    "text.jpg": lambda path: path.write_text("not a picture"),
    "empty.jpg": lambda path: path.touch(),
    "cut.jpg": lambda path: path.write_bytes(jpeg()[:20_000]),
    "dot.png": lambda path: Image.new("RGB", (1, 1)).save(path),
    "huge.png": lambda path: huge_png(path),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_one_line_and_the_others_are_done(image, photo, tmp_path, name):
    bad = tmp_path / name
    BAD[name](bad)
    code, said, trouble = image(bad, photo)
    assert code == 1
    assert len(trouble) == 1
    assert str(bad) in trouble[0]
    assert len(said) == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["photo.json", "photo.png"]


@pytest.mark.parametrize("kind", ["missing", "text", "foreign", "folder"])
def test_a_bad_model_is_one_line_and_nothing_starts(image, photo, tmp_path, kind):
    model = tmp_path / "m.onnx"
    if kind == "text":
        model.write_text("not a model")
    elif kind == "foreign":
        write_model(model, None)
    elif kind == "folder":
        model.mkdir()
    code, said, trouble = image(photo, model=model)
    assert (code, said, len(trouble)) == (2, [], 1)
    assert str(model) in trouble[0]


def test_a_bad_file_of_boxes_is_one_line_and_nothing_starts(image, photo, tmp_path):
    (tmp_path / "boxes.csv").write_text("a,b\n1,2\n")
    for name in ("boxes.csv", "missing.json"):
        code, said, trouble = image(photo, "--boxes", tmp_path / name)
        assert (code, said, len(trouble)) == (2, [], 1)
        assert name in trouble[0]


def test_an_output_folder_that_cannot_be_made_is_one_line(image, photo, tmp_path):
    (tmp_path / "taken").touch()
    for out in (tmp_path / "taken", tmp_path / "taken" / "below"):
        code, said, trouble = image(photo, out=out)
        assert (code, said, len(trouble)) == (2, [], 1)
        assert str(out) in trouble[0]


def test_a_result_that_cannot_be_written_costs_its_picture_only(image, photo, tmp_path):
    shutil.copy(photo, tmp_path / "other.png")
    (tmp_path / "out" / "photo.json").mkdir(parents=True)
    code, said, trouble = image(photo, tmp_path / "other.png")
    assert (code, len(said), len(trouble)) == (1, 1, 1)
    assert "photo.json" in trouble[0]


@pytest.mark.parametrize(
    "options", [["--mass", "1"], ["--mass", "0"], ["--mass", "nan"], ["--inner-mass", "2"], ["--threads", "0"]]
)
def test_wrong_numbers_are_one_line(photo, model_path, tmp_path, capfd, options):
    code = main(["image", str(photo), "--out", str(tmp_path / "out"), "--model", str(model_path), *options])
    trouble = capfd.readouterr().err.splitlines()
    assert code == 2
    assert len(trouble) == 1
    assert options[0].strip("-") in trouble[0]


@pytest.mark.parametrize(
    "arguments",
    [[], ["paint"], ["image"], ["image", "a.jpg"], ["image", "--out", "x"], ["image", "a.jpg", "--out", "x", "--mass", "much"]],
)
def test_wrong_usage_ends_with_2(arguments, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capfd.readouterr().err


def test_help_names_every_command(capfd):
    assert main(["--help"]) == 0
    said = capfd.readouterr().out
    assert all(name in said for name in COMMANDS)
    assert main(["image", "--help"]) == 0
    assert "--boxes" in capfd.readouterr().out


def test_version(capfd):
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"posecov {posecov.__version__}\n"


def test_an_interruption_is_clean(image, photo, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("posecov.drawing.draw_poses", interrupt)
    code, _, trouble = image(photo)
    assert (code, trouble) == (130, ["posecov: interrupted"])


def test_names_that_the_terminal_lacks(model_path, photo, tmp_path):
    strange = tmp_path / os.fsdecode(b"b\xe4r \xf0\x9f\x90\xbb.png")
    shutil.copy(photo, strange)
    command = [sys.executable, "-m", "posecov.cli", "image", str(strange), str(tmp_path / "\u00fc.png")]
    command += ["--out", str(tmp_path / "out"), "--model", str(model_path), "--threads", "1", "--csv"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert len(done.stderr.splitlines()) == 1
    assert b"Traceback" not in done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_rank_orders_pictures_and_shows_the_first(model_path, photo, tmp_path, capfd, dots):
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), dots)
    cv2.imwrite(str(folder / "empty.png"), np.full((90, 90, 3), 40, np.uint8))
    (folder / "bad.jpg").write_text("not a picture")
    options = ["--out", str(tmp_path / "out"), "--model", str(model_path), "--threads", "1"]
    code = main(["rank", str(folder), str(photo), *options])
    said = capfd.readouterr()
    assert code == 1
    assert len(said.err.splitlines()) == 1
    assert "bad.jpg" in said.err
    rows = [line.split(",") for line in (tmp_path / "out" / "rank.csv").read_text().splitlines()]
    assert [row[0] for row in rows[1:]] == ["1", "2", ""]
    assert rows[3][1].endswith("empty.png")
    assert cv2.imread(str(tmp_path / "out" / "rank.png")).shape[1] > 800
    assert main(["rank", str(photo), *options, "--sheet", "0", "--out", str(tmp_path / "bare")]) == 0
    assert [path.name for path in (tmp_path / "bare").iterdir()] == ["rank.csv"]
    capfd.readouterr()
    for wrong in (["--mass", "2"], ["--sheet", "-1"], ["--boxes", "none.json"]):
        assert main(["rank", str(photo), *options, *wrong]) == 2
        assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.fixture
def shipped(tmp_path, monkeypatch, model_path):
    """The tiny model in the place of the shipped one."""
    (tmp_path / "wheel" / DEFAULT_MODEL).parent.mkdir(parents=True)
    shutil.copy(model_path, tmp_path / "wheel" / DEFAULT_MODEL)
    monkeypatch.setattr(resources, "_PLACES", (tmp_path / "wheel",))


@pytest.mark.usefixtures("shipped")
def test_the_demo_needs_no_picture_of_ones_own(tmp_path, capfd):
    pytest.importorskip("skimage")
    assert main(["demo", "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "astronaut.json",
        "astronaut.png",
        "camera.json",
        "camera.png",
    ]
    assert str(tmp_path / "out" / "astronaut.png") in capfd.readouterr().out
    assert json.loads((tmp_path / "out" / "camera.json").read_text())["width"] == 512


@pytest.mark.usefixtures("shipped")
def test_the_demo_says_what_it_needs(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("posecov.commands.demo.find_spec", lambda name: None)
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    (trouble,) = capfd.readouterr().err.splitlines()
    assert 'pip install "posecov[demo]"' in trouble
