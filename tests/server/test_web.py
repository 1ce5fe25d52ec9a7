"""The page and its models."""

import pytest
from starlette.testclient import TestClient

from posecov import resources
from posecov.errors import PosecovError
from posecov.estimator import SHIPPED
from posecov.server.app import create_app
from posecov.server.web import find_page

FILES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "ort.mjs": "text/javascript; charset=utf-8",
    "ort.wasm": "application/wasm",
    "style.css": "text/css; charset=utf-8",
    "data.json": "application/json",
    "other.onnx": "application/octet-stream",
}


@pytest.fixture
def page(tmp_path):
    folder = tmp_path / "page"
    (folder / "models").mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(name)
    (folder / "models" / "tiny.onnx").write_text("not this one")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


@pytest.fixture
def client(estimator, page):
    with TestClient(create_app(estimator, page=page)) as client:
        yield client


def test_files_have_their_types(client):
    for name, kind in FILES.items():
        response = client.get(f"/{name}")
        assert (response.status_code, response.text, response.headers["content-type"]) == (200, name, kind)
    assert client.get("/").text == "index.html"


def test_browsers_ask_whether_a_file_has_changed(client):
    first = client.get("/ort.wasm")
    assert first.headers["cache-control"] == "no-cache"
    assert client.get("/ort.wasm", headers={"If-None-Match": first.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/link.txt", "/models", "/none.js"]
)
def test_nothing_else_is_served(client, path):
    response = client.get(path)
    assert response.status_code == 404
    assert "secret" not in response.text.replace("secret.txt", "")


def test_the_page_takes_no_posts_and_hides_no_other_path(client):
    assert client.post("/index.html").status_code == 405
    assert client.post("/nothing").status_code == 404
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_are_beside_the_page(client, name):
    expected = resources.find(SHIPPED[name])
    response = client.get(f"/models/{name}.onnx")
    assert response.content == expected.read_bytes()
    assert response.headers["content-type"] == "application/octet-stream"
    head = client.head(f"/models/{name}.onnx")
    assert int(head.headers["content-length"]) == expected.stat().st_size
    assert client.get(f"/models/{name}.onnx", headers={"If-None-Match": response.headers["etag"]}).status_code == 304
    assert client.get("/models/SHA256SUMS.onnx").status_code == 404


def test_a_folder_without_a_page_is_an_error(tmp_path, page):
    assert find_page(page) == page
    with pytest.raises(PosecovError, match=r"index\.html"):
        find_page(tmp_path)


def test_the_page_that_ships_is_found_where_other_resources_are(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "_PLACES", (tmp_path,))
    assert find_page() is None
    folder = tmp_path / "deploy" / "web" / "dist"
    folder.mkdir(parents=True)
    (folder / "index.html").touch()
    assert find_page() == folder
