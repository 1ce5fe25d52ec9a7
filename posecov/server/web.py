"""The page under ``/`` and the models that it loads, with the headers that keep it to itself."""

import os
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from posecov import resources
from posecov.errors import PosecovError
from posecov.estimator import SHIPPED

HEADERS = {
    # WebAssembly is compiled at run time, its threads start from blobs; nothing else may be loaded from elsewhere or inline.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; connect-src 'self' blob: data:; "
        "img-src 'self' blob: data:; media-src 'self' blob:; style-src 'self'; font-src 'self'; manifest-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    # Together they isolate the page, without which browsers give WebAssembly no threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}
"""Of every answer."""

# Not left to the system's tables: a slim container has none, and Windows' registry may say anything.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".ico": "image/x-icon",
}


def find_page(folder: Path | None = None) -> Path | None:
    """The folder of the page: the one given, else the one that ships, else None. Raises PosecovError for one without a page."""
    if folder is not None:
        if not (folder / "index.html").is_file():
            raise PosecovError(f"{folder}: has no index.html; give the folder of a built page")
        return folder
    try:
        return resources.find("deploy/web/dist/index.html").parent
    except PosecovError:
        return None


class Files(StaticFiles):
    """Files of a folder, with the right types; browsers ask each time whether they have changed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        # Starlette finds a method wrong before it looks whether there is anything to use it on.
        if scope["method"] not in ("GET", "HEAD") and self.lookup_path(path)[1] is None:
            raise HTTPException(404)
        return await super().get_response(path, scope)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        kind = _TYPES.get(Path(full_path).suffix.lower())
        if kind is not None and response.status_code != 304:
            response.headers["Content-Type"] = kind
        return response


async def shipped_model(name: str, scope: Scope) -> Response:
    """A model that ships, by its name in `SHIPPED`. Raises HTTPException 404 for any other."""
    if name not in SHIPPED:
        raise HTTPException(404)
    path = resources.find(SHIPPED[name])
    return await Files(directory=path.parent).get_response(path.name, scope)
