"""What ``posecov doctor`` says about machines and models, right and wrong ones."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from tiny_model import EXCHANGING, METADATA, WEIGHTS, write_model

from posecov import doctor
from posecov.cli import main
from posecov.doctor import Finding, drawn_crops
from posecov.model import PoseModel


def verdicts(findings):
    return [finding.verdict for finding in findings]


def test_the_drawn_crops_are_the_same_everywhere():
    crops = drawn_crops(64)
    assert crops.shape == (3, 64, 64, 3)
    np.testing.assert_array_equal(crops[1], crops[0][:, ::-1])
    # Sums, not a hash: a rounding at a tie may differ between machines.
    assert crops.astype(float).mean(axis=(1, 2, 3)) == pytest.approx([120.03, 120.03, 133.31], abs=0.1)


def test_a_model_agrees_with_itself(model_path):
    found = doctor.parity(model_path)
    assert verdicts(found) == [True, None]
    assert "not checked" in found[1].text
    assert verdicts(doctor.providers(model_path)).count(False) == 0
    assert "CPUExecutionProvider: runs" in " ".join(finding.text for finding in doctor.providers(model_path))


def test_reference_outputs_in_the_model_are_compared(tmp_path, model_path):
    outputs = PoseModel(model_path).outputs(drawn_crops(64)[:1])
    reference = doctor.reference_of(outputs["keypoints"][0], outputs["covariance"][0])
    right = replace(METADATA, description={"reference": reference})
    assert verdicts(doctor.parity(write_model(tmp_path / "right.onnx", right))) == [True, True]
    reference["keypoints"][1][0] += 0.2
    wrong = replace(METADATA, description={"reference": reference})
    assert verdicts(doctor.parity(write_model(tmp_path / "wrong.onnx", wrong))) == [True, False]
    reference["keypoints"][1][0] -= 0.2
    reference["sigma"][0] *= 1.05
    wide = replace(METADATA, description={"reference": reference})
    assert verdicts(doctor.parity(write_model(tmp_path / "wide.onnx", wide))) == [True, False]


def test_checksums_beside_a_model_are_compared(tmp_path):
    path = write_model(tmp_path / "tiny.onnx", EXCHANGING, weights=WEIGHTS)
    assert verdicts(doctor.model_file(path)) == [None, None, None]
    assert "2 exchanges" in doctor.model_file(path)[1].text
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{sha}  tiny.onnx\n")
    assert verdicts(doctor.model_file(path)) == [None, None, True]
    (tmp_path / "SHA256SUMS").write_text(f"{sha[::-1]}  tiny.onnx\n")
    assert verdicts(doctor.model_file(path)) == [None, None, False]


def test_packages_that_overwrite_each_other_are_wrong(monkeypatch):
    versions = dict.fromkeys([*doctor.NEEDED, "onnxruntime", "opencv-python"], "1.0")
    monkeypatch.setattr(doctor, "_installed", versions.get)
    assert False not in verdicts(doctor.packages())
    versions["opencv-python-headless"] = "1.0"
    assert False not in verdicts(doctor.packages())
    versions["opencv-python-headless"] = "1.1"
    assert verdicts(doctor.packages()).count(False) == 1
    versions["onnxruntime-gpu"] = "1.0"
    assert verdicts(doctor.packages()).count(False) == 2
    del versions["scipy"], versions["opencv-python"], versions["opencv-python-headless"]
    assert verdicts(doctor.packages()).count(False) == 3


@pytest.mark.parametrize(
    ("information", "display", "said"),
    [
        ("  GUI:                           NONE\n  Media I/O:\n", ":0", "headless"),
        ("  GUI:                           QT5\n    QT:  YES\n", ":0", "windows by QT5"),
        ("  GUI:                           GTK3\n", "", "no display"),
    ],
)
def test_windows(monkeypatch, information, display, said):
    monkeypatch.setattr("cv2.getBuildInformation", lambda: information)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", display)
    assert any(said in finding.text for finding in doctor.windows())


def test_the_command_says_all_of_it(model_path, capfd, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "speed", lambda path, seconds, measure=doctor.speed: measure(path, 0.01))
    assert main(["doctor", str(model_path)]) == 0
    said = capfd.readouterr().out
    for title in ("system", "packages", "windows", "model", "providers", "parity", "speed"):
        assert f"{title}:\n" in said
    assert "ms a crop, 1 CPU thread" in said
    assert "FAIL" not in said
    assert main(["doctor", str(tmp_path / "none.onnx")]) == 1
    said = capfd.readouterr().out
    assert "FAIL" in said
    assert said.strip().endswith("1 line says FAIL")
    assert "speed:" not in said


def test_a_broken_section_does_not_hide_the_others(model_path, monkeypatch):
    def broken():
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor, "windows", broken)
    monkeypatch.setattr(doctor, "speed", lambda path, seconds: [Finding("fast")])
    sections = dict(doctor.examine(model_path))
    assert verdicts(sections["windows"]) == [False]
    assert "ImportError: libGL.so.1" in sections["windows"][0].text
    assert verdicts(sections["parity"])[0] is True
