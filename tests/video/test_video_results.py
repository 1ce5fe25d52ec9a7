import dataclasses
import json

import pytest
from tiny_model import EXCHANGING, METADATA, POINTS, WEIGHTS, picture, write_model

from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.video.frames import Followed
from posecov.video.results import (
    FrameResult,
    ResultsWriter,
    compact,
    expanded,
    frame_line,
    make_header,
    people_in,
    read_results,
)


@pytest.fixture(params=["single", "mixture"])
def someone(request, tmp_path, model_path):
    """A header, and a pose of its model."""
    path, metadata = model_path, METADATA
    if request.param == "mixture":
        path, metadata = write_model(tmp_path / "mixture.onnx", EXCHANGING, weights=WEIGHTS), EXCHANGING
    estimator = PoseEstimator(path, threads=1)
    (pose,) = estimator(picture(POINTS, 320, 240), boxes=[[80, 60, 130, 110]])
    return make_header("a.mp4", 320, 240, metadata, path), pose


def seen(index, *people, damaged=False):
    return FrameResult(index, index / 3, list(people), damaged)


def same(first, second):
    assert json.dumps(first.to_dict()) == json.dumps(second.to_dict())


def test_a_compact_pose_is_the_same_pose_bit_for_bit(someone):
    header, pose = someone
    fields = json.loads(json.dumps(compact(pose, header)))
    same(expanded(fields, header), pose)
    assert {"skeleton", "names", "degrees_of_freedom"}.isdisjoint(fields)
    assert len(fields["covariance"]) == 8 * 9 // 2


def test_a_pose_with_a_known_joint_or_another_law_too(someone):
    header, pose = someone
    known = pose.condition({"head": (141.0, 150.0)})
    same(expanded(json.loads(json.dumps(compact(known, header))), header), known)
    other = (
        dataclasses.replace(pose, degrees_of_freedom=9.0) if pose.components is None else pose.condition({"r_hand": (120, 90)})
    )
    same(expanded(compact(other, header), header), other)


def test_what_is_written_is_read_back(someone, tmp_path):
    header, pose = someone
    writer = ResultsWriter(tmp_path / "a.jsonl", header)
    lines = [seen(0, Followed(1, pose, pose)), seen(1), seen(2, Followed(4, pose, pose), Followed(1, pose, pose), damaged=True)]
    for line in lines:
        writer.write(line)
        # Written at once, so that nothing is lost with the process.
        assert len((tmp_path / "a.jsonl").read_text().splitlines()) == writer.count + 1
    writer.close()
    found, frames = read_results(tmp_path / "a.jsonl")
    assert found == header
    frames = list(frames)
    assert [(f.frame, f.time, [p.id for p in f.people]) for f in frames] == [(0, 0.0, [1]), (1, 1 / 3, []), (2, 2 / 3, [4, 1])]
    same(frames[2].people[0].pose, pose)
    assert people_in(tmp_path / "a.jsonl") == ([1, 4], 3)
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[3])["damaged"] is True


@pytest.mark.parametrize("tail", [b"", b'{"frame": 2, "ti', b"\x00\x00\n", b'{"frame": 2, "time": 1.0, "people": []}'])
def test_resuming_goes_on_after_the_last_whole_line(someone, tmp_path, tail):
    header, pose = someone
    writer = ResultsWriter(tmp_path / "a.jsonl", header)
    for index in range(2):
        writer.write(seen(index, Followed(1, pose, pose)))
    writer.close()
    whole = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.jsonl").write_bytes(whole + tail)
    assert len(list(read_results(tmp_path / "a.jsonl")[1])) == 2
    writer = ResultsWriter(tmp_path / "a.jsonl", header, resume=True)
    assert writer.count == 2
    writer.write(seen(2, Followed(1, pose, pose)))
    writer.close()
    line = json.dumps(frame_line(seen(2, Followed(1, pose, pose)), header), separators=(",", ":"))
    assert (tmp_path / "a.jsonl").read_bytes() == whole + line.encode() + b"\n"


def test_results_of_another_model_are_not_gone_on_with(someone, tmp_path):
    header, _ = someone
    ResultsWriter(tmp_path / "a.jsonl", header).close()
    with pytest.raises(PosecovError, match="another film or model"):
        ResultsWriter(tmp_path / "a.jsonl", header | {"model_sha256": "0"}, resume=True)
    assert ResultsWriter(tmp_path / "a.jsonl", header, resume=True).count == 0


def test_other_files_are_refused(tmp_path):
    for content in ("", "{}\n", "hello\n"):
        (tmp_path / "a.jsonl").write_text(content)
        with pytest.raises(PosecovError, match="not the results of a film"):
            read_results(tmp_path / "a.jsonl")
    with pytest.raises(PosecovError, match="cannot be read"):
        read_results(tmp_path / "none.jsonl")


def test_damage_inside_is_named(someone, tmp_path):
    header, _ = someone
    broken = {"frame": 0, "time": 0.0, "people": [{"id": 1, "keypoints": [[1, 2]], "covariance": [1, 2]}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(header) + "\n" + json.dumps(broken) + "\n")
    with pytest.raises(PosecovError, match="damaged at line 2"):
        list(read_results(tmp_path / "a.jsonl")[1])


@pytest.mark.parametrize(
    "line",
    ['{"frame": 0, "time": 0, "people": [[]]}', '{"frame": 0, "time": 0, "people": [1.5]}', '{"frame": 0}', "[]", "[" * 9000],
)
def test_lines_that_are_no_frames(tmp_path, line):
    path = tmp_path / "a.jsonl"
    header = {"format": "posecov-frames-1", "skeleton": {"name": "a", "keypoints": ["a"]}, "degrees_of_freedom": 5.0}
    path.write_text(f"{json.dumps(header)}\n{line}\n")
    for read in (people_in, lambda path: list(read_results(path)[1])):
        try:
            assert not any(read(path)), "a cut line does not count"
        except PosecovError as error:
            assert str(error).startswith(f"{path}: damaged at line 2")  # noqa: PT017
