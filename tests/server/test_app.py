"""What the application answers, to good requests and to everything else."""

import json
import logging
import threading
import time

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient
from test_images import huge_png
from tiny_model import METADATA

from posecov.errors import PosecovError
from posecov.output import picture_document
from posecov.server.app import create_app
from posecov.server.limits import Limits

JPEG = {"Content-Type": "image/jpeg"}
LIMITS = Limits(max_bytes=100_000, max_pixels=1_000_000, max_boxes=4)
BOXES = [[100.0, 60.0, 90.0, 110.0], [90.0, 50.0, 100.0, 120.0]]


@pytest.fixture(scope="module")
def client(estimator):
    with TestClient(create_app(estimator, LIMITS), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def content(dots):
    return cv2.imencode(".png", dots)[1].tobytes()


def document(*arguments):
    """As it comes back from JSON."""
    return json.loads(json.dumps(picture_document(*arguments)))


def refused(response, status):
    """The one line of an answer that must be a refusal with this status."""
    assert response.status_code == status, response.text
    said = response.json()
    assert list(said) == ["error"]
    assert said["error"]
    assert "\n" not in said["error"]
    return said["error"]


def test_a_picture_gives_the_document_of_the_command(client, content, estimator, dots):
    response = client.post("/v1/poses", content=content, headers=JPEG, params={"boxes": json.dumps(BOXES), "mass": "0.8"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == document("picture", 320, 240, "tiny", 0.8, estimator(dots, BOXES))


def test_without_boxes_one_person_is_searched_for(client, content, estimator, dots):
    found = client.post("/v1/poses", content=content, headers={"Content-Type": "application/octet-stream"}).json()
    assert found == document("picture", 320, 240, "tiny", 0.95, estimator(dots))
    assert len(found["people"]) == 1
    assert client.post("/v1/poses", content=content, params={"boxes": "[]"}).json()["people"] == []


def test_a_form_says_the_same_and_names_the_picture(client, content):
    form = {"boxes": json.dumps(BOXES), "mass": "0.8"}
    found = client.post("/v1/poses", files={"file": ("a b.png", content)}, data=form).json()
    raw = client.post("/v1/poses", content=content, headers=JPEG, params=form).json()
    assert found == {**raw, "image": "a b.png"}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\a.png", "a.png"),
        ("x/..", ".."),
        ("", "picture"),
        ("a\x07b\u202e.png", "ab.png"),
    ],
)
def test_a_name_is_only_a_name(client, content, sent, said):
    boundary = b"--cut\r\n"
    head = b'Content-Disposition: form-data; name="file"; filename="' + sent.encode() + b'"\r\n\r\n'
    body = boundary + head + content + b"\r\n--cut--\r\n"
    response = client.post("/v1/poses", content=body, headers={"Content-Type": "multipart/form-data; boundary=cut"})
    assert response.json()["image"] == said


def test_nothing_of_a_client_is_written(estimator, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    big = cv2.imencode(".png", noise)[1].tobytes()
    assert len(big) > 1_200_000  # More than Starlette's forms keep in memory.

    def no(*_, **__):
        raise AssertionError("a temporary file")

    for name in ("SpooledTemporaryFile", "NamedTemporaryFile", "TemporaryFile", "mkstemp"):
        monkeypatch.setattr(f"tempfile.{name}", no)
    with TestClient(create_app(estimator, Limits(max_bytes=5_000_000))) as other:
        assert other.post("/v1/poses", files={"file": ("a.png", big)}, data={"boxes": "[[0, 0, 50, 50]]"}).status_code == 200


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 415, "empty"),
        (b"hello", 415, "not a picture"),
        (b"\x89PNG\r\n\x1a\n", 415, "picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", 415, "not a picture"),
        (b"x" * 100_001, 413, "longer than 0.1 MB"),
    ],
)
def test_what_is_no_picture(client, content, status, said):
    assert said in refused(
        client.post("/v1/poses", content=content, headers={**JPEG, "Content-Length": str(len(content))}), status
    )


def test_a_picture_cut_short(client, content):
    assert "cut short" in refused(client.post("/v1/poses", content=content[:-200], headers=JPEG), 415)


def test_a_small_file_with_very_many_pixels(client, tmp_path):
    content = huge_png(tmp_path / "bomb.png", 4_000).read_bytes()
    assert len(content) < 100_000
    assert "1 megapixels" in refused(client.post("/v1/poses", content=content, headers=JPEG), 413)


def test_a_body_without_an_announced_length_is_counted_as_it_comes(client):
    sent = []

    def chunks():
        for _ in range(100):
            sent.append(1)
            yield b"x" * 10_000

    refused(client.post("/v1/poses", content=chunks(), headers=JPEG), 413)


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"boxes": "[[1, 2, 3"}, 400, "JSON"),
        ({"boxes": "[" * 60_000}, 400, "JSON"),
        ({"boxes": "{}"}, 400, "list"),
        ({"boxes": "[1, 2, 3, 4]"}, 400, "box 0"),
        ({"boxes": "[[0, 0, 50, 50], [0, 0, 50]]"}, 400, "box 1"),
        ({"boxes": '[[0, 0, "50", 50]]'}, 400, "box 0"),
        ({"boxes": "[[0, 0, true, 50]]"}, 400, "box 0"),
        ({"boxes": "[[0, 0, NaN, 50]]"}, 422, "box 0"),
        ({"boxes": "[[NaN, 0, 50, 50]]"}, 422, "box 0"),
        ({"boxes": "[[0, 0, Infinity, 50]]"}, 422, "box 0"),
        ({"boxes": "[[0, 0, 1e300, 50]]"}, 422, "box 0"),
        ({"boxes": f"[[0, 0, 1{400 * '0'}, 50]]"}, 422, "too large"),
        ({"boxes": "[[0, 0, 0, 50]]"}, 422, "box 0"),
        ({"boxes": "[[0, 0, 50, 50], [320, 0, 50, 50]]"}, 422, "box 1"),
        ({"boxes": "[[0, -60, 50, 50]]"}, 422, "box 0"),
        ({"boxes": json.dumps(5 * [[0, 0, 50, 50]])}, 422, "5 boxes"),
        ({"boxes": "x" * 70_000}, 400, "longer"),
        ({"mass": "1"}, 400, "mass"),
        ({"mass": "nan"}, 400, "mass"),
        ({"mass": "much"}, 400, "mass"),
        ({"box": "[]"}, 400, "'box'"),
    ],
)
def test_questions_that_cannot_be_answered(client, content, fields, status, said):
    assert said in refused(client.post("/v1/poses", files={"file": ("a.png", content)}, data=fields), status)
    if all(len(value) < 1000 for value in fields.values()):
        assert said in refused(client.post("/v1/poses", content=content, headers=JPEG, params=fields), status)


PART = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nxx\r\n'


@pytest.mark.parametrize(
    ("kind", "body", "status", "said"),
    [
        ("multipart/form-data", b"", 400, "boundary"),
        ("multipart/form-data; boundary=" + 300 * "b", b"", 400, "boundary"),
        ("multipart/form-data; boundary=cut", b"", 400, "last boundary"),
        ("multipart/form-data; boundary=cut", b"nothing of the kind", 400, "cannot be read"),
        ("multipart/form-data; boundary=cut", PART, 400, "last boundary"),
        ("multipart/form-data; boundary=cut", b"--cut--\r\n", 400, ""),
        ("multipart/form-data; boundary=cut", PART + PART + b"--cut--", 400, "twice"),
        ("multipart/form-data; boundary=cut", PART.replace(b"file", b"mass") + b"--cut--", 400, "no field 'file'"),
        ("multipart/form-data; boundary=cut", PART.replace(b'name="file"; ', b"") + b"--cut--", 400, "field ''"),
        ("multipart/form-data; boundary=cut", b"--cut\r\n" + b"a: b\r\n" * 100 + PART, 400, "cannot be read"),
        ("multipart/form-data; boundary=cut", b"--cut\r\na: " + b"b" * 50_000, 400, "cannot be read"),
        (
            "multipart/form-data; boundary=cut",
            PART + PART.replace(b'"file"', b'"boxes"').replace(b"xx", b"\xff") + b"--cut--",
            400,
            "UTF-8",
        ),
        ("application/json", b"{}", 415, "content type"),
        ("application/x-www-form-urlencoded", b"a=b", 415, "content type"),
        ("text/html", b"", 415, "content type"),
    ],
)
def test_bodies_that_cannot_be_read(client, kind, body, status, said, caplog):
    headers = {"Content-Type": kind, "Content-Length": str(len(body))}
    assert said in refused(client.post("/v1/poses", content=body, headers=headers), status)
    assert caplog.records == []  # What strangers send does not fill the log.


def test_fields_are_given_once(client, content):
    assert "twice" in refused(client.post("/v1/poses?mass=0.5", files={"file": ("a", content)}, data={"mass": "0.5"}), 400)
    assert "twice" in refused(client.post("/v1/poses?mass=0.5&mass=0.5", content=content, headers=JPEG), 400)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods(client, method):
    response = client.request(method, "/v1/poses")
    refused(response, 405)
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/poses/", "/%2e%2e/etc/passwd", "/models/../x.onnx", "/models/none.onnx", "/"]
)
def test_other_paths(client, path):
    refused(client.get(path, follow_redirects=False), 404)


def test_health_model_and_description(client, estimator):
    assert client.get("/healthz").json() == {"status": "ok"}
    model = client.get("/v1/model").json()
    assert model["name"] == METADATA.name
    assert model["skeleton"]["keypoints"] == list(METADATA.skeleton.keypoints)
    assert model["providers"] == ["CPUExecutionProvider"]
    operation = client.get("/openapi.json").json()["paths"]["/v1/poses"]["post"]
    assert set(operation["requestBody"]["content"]) >= {"multipart/form-data", "image/jpeg", "application/octet-stream"}
    assert {"200", "400", "401", "408", "411", "413", "415", "422", "503", "504"} <= set(operation["responses"])
    assert all(answer["content"]["application/json"]["example"] for answer in operation["responses"].values())


def test_metrics_count_requests_crops_and_people(estimator, content):
    with TestClient(create_app(estimator, LIMITS)) as client:
        client.post("/v1/poses", content=content, params={"boxes": json.dumps(BOXES)})
        client.post("/v1/poses", content=b"x")
        text = client.get("/metrics").text
    for line in (
        'posecov_requests_total{route="poses",status="200"} 1.0',
        'posecov_requests_total{route="poses",status="415"} 1.0',
        "posecov_people_total 2.0",
        "posecov_batch_crops_sum 2.0",
        "posecov_batch_crops_count 1.0",
        "posecov_held_bytes 0.0",
        "posecov_pictures_inside 0.0",
    ):
        assert line in text


def test_where_there_is_a_token_it_is_needed(estimator, content):
    with TestClient(create_app(estimator, LIMITS, token="s3cret")) as client:
        for path in ("/v1/model", "/metrics"):
            assert client.get(path, headers={"Authorization": "Bearer s3cret"}).status_code == 200
        assert client.post("/v1/poses", content=content, headers={"Authorization": "bearer s3cret"}).status_code == 200
        for wrong in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Basic s3cret"}):
            response = client.post("/v1/poses", content=content, headers=wrong)
            assert "token" in refused(response, 401)
            assert response.headers["www-authenticate"] == "Bearer"
            refused(client.get("/v1/model", headers=wrong), 401)
        refused(client.get("/v1/model", headers={"Authorization": "Bearer \xff".encode("latin-1")}), 401)
        assert client.get("/healthz").status_code == 200
        assert client.get("/openapi.json").json()["security"] == [{"token": []}]


class Slow:
    """Makes a network wait until it is told to go on."""

    def __init__(self, estimator, monkeypatch):
        self.go, self.started = threading.Event(), threading.Semaphore(0)
        run = type(estimator.model)._run

        def slow(model, *arguments):
            self.started.release()
            assert self.go.wait(20)
            return run(model, *arguments)

        monkeypatch.setattr(type(estimator.model), "_run", slow)


def test_more_pictures_than_there_is_room_for_are_turned_away(estimator, content, monkeypatch):
    slow = Slow(estimator, monkeypatch)
    answers = []
    with TestClient(create_app(estimator, Limits(max_concurrent=1, max_waiting=1))) as client:

        def ask():
            answers.append(client.post("/v1/poses", content=content, params={"boxes": json.dumps(BOXES)}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert slow.started.acquire(timeout=10)
        wait_for(lambda: "posecov_pictures_inside 2.0" in client.get("/metrics").text)
        response = client.post("/v1/poses", content=content)
        refused(response, 503)
        assert int(response.headers["retry-after"]) >= 1
        slow.go.set()
        for thread in threads:
            thread.join(10)
        assert answers == [200, 200]
        wait_for(lambda: client.post("/v1/poses", content=content, params={"boxes": "[]"}).status_code == 200)


def test_what_takes_too_long_is_given_up_and_its_place_is_free_again(estimator, content, monkeypatch):
    slow = Slow(estimator, monkeypatch)
    with TestClient(create_app(estimator, Limits(max_concurrent=1, max_waiting=0, timeout=0.2))) as client:
        refused(client.post("/v1/poses", content=content, params={"boxes": json.dumps(BOXES)}), 504)
        refused(client.post("/v1/poses", content=content), 503)  # Its thread is still at work.
        slow.go.set()
        wait_for(lambda: "posecov_pictures_inside 0.0" in client.get("/metrics").text)
        assert client.post("/v1/poses", content=content, params={"boxes": json.dumps(BOXES)}).status_code == 200


def test_a_model_that_fails_is_the_servers_fault_and_says_nothing_about_it(estimator, content, monkeypatch, caplog):
    def fails(*_):
        raise PosecovError("/secret/model.onnx: broken")

    monkeypatch.setattr(type(estimator.model), "_run", fails)
    with TestClient(create_app(estimator, LIMITS)) as client, caplog.at_level(logging.ERROR):
        said = refused(client.post("/v1/poses", content=content, params={"boxes": json.dumps(BOXES)}), 500)
    assert "secret" not in said
    assert "/secret/model.onnx: broken" in caplog.text


def test_bugs_are_one_line_to_the_client(client, content, monkeypatch):
    def bug(*_):
        raise ZeroDivisionError("details")

    monkeypatch.setattr("posecov.server.questions.picture_document", bug)
    assert "details" not in refused(client.post("/v1/poses", content=content, params={"boxes": "[]"}), 500)
    monkeypatch.undo()
    assert client.post("/v1/poses", content=content, params={"boxes": "[]"}).status_code == 200


def test_every_answer_isolates_the_page(client):
    for response in (client.get("/healthz"), client.get("/nothing"), client.get("/models/tiny.onnx")):
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "'wasm-unsafe-eval'" in policy
        assert "worker-src 'self' blob:" in policy
        assert "unsafe-inline" not in policy
        assert response.headers["cross-origin-opener-policy"] == "same-origin"
        assert response.headers["cross-origin-embedder-policy"] == "require-corp"
        assert response.headers["x-content-type-options"] == "nosniff"


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
