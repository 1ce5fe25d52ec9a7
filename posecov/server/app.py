"""The application: which paths there are and what they do."""

import asyncio
import copy
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

import posecov
from posecov.estimator import PoseEstimator
from posecov.server import description, metrics
from posecov.server.batching import BatchedModel
from posecov.server.front import Front
from posecov.server.limits import Limits
from posecov.server.questions import Question, answer
from posecov.server.refusals import Refused, refusal
from posecov.server.uploads import FIELDS, Gone, Upload, dismiss, read_upload
from posecov.server.web import Files, shipped_model
from posecov.server.workers import Workers

_ABOUT = 'A picture goes in; keypoints with a full, calibrated joint covariance come out. Errors are {"error": "one line"}.'
_CLIENT_GONE = 499  # As nginx calls it; nobody reads it, but the metrics count it.
_log = logging.getLogger(__name__)


def create_app(
    estimator: PoseEstimator, limits: Limits | None = None, *, token: str | None = None, page: Path | None = None
) -> ASGIApp:
    """The ASGI application of one model.

    Args:
        estimator: the pose network; its model is then the server's alone.
        limits: what clients may ask.
        token: that ``/v1`` and ``/metrics`` then need as ``Authorization: Bearer``.
        page: folder of the page under ``/``, if any.
    """
    limits = limits or Limits()
    counters = metrics.Metrics()
    estimator = copy.copy(estimator)
    # It warns of broken forms, of which the clients themselves are told: no stranger shall fill the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        model = BatchedModel(estimator.model, counters.batch)
        estimator.model = model
        workers = Workers(limits)
        app.state.workers = workers
        counters.watch("posecov_pictures_inside", "Pictures worked on or waiting", lambda: workers.inside)
        counters.watch("posecov_held_bytes", "Bytes of bodies in memory", lambda: workers.held)
        try:
            yield
        finally:
            await asyncio.to_thread(workers.close)
            model.close()

    app = FastAPI(
        title="posecov",
        version=posecov.__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )

    @app.post(
        "/v1/poses", summary="Poses in a picture", openapi_extra=description.request(limits), responses=description.responses()
    )
    async def poses(request: Request) -> Response:
        workers: Workers = request.app.state.workers
        try:
            workers.check_room()
            upload = await read_upload(request, limits, workers)
        except Refused as refused:
            refused.headers = {**refused.headers, **await dismiss(request, limits)}
            raise
        size = len(upload.content)
        try:
            question = Question.from_fields(_fields(request, upload), limits)
            job = lambda: answer(estimator, upload.name, upload.content, question, limits)  # noqa: E731
            content, people = await _while_here(request, workers.run(job))
        finally:
            workers.release(size)
        counters.people(people)
        return Response(content, media_type="application/json")

    @app.get("/v1/model", summary="What the model says about itself")
    def model() -> dict[str, Any]:
        says = json.loads(estimator.metadata.to_json())
        return {**says, "providers": estimator.model.providers, "posecov": posecov.__version__}

    @app.get("/healthz", summary="Whether the server is up")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics", summary="Counters, for Prometheus", response_class=Response)
    def counted() -> Response:
        return Response(counters.text(), media_type=metrics.CONTENT_TYPE)

    @app.api_route("/models/{name}.onnx", methods=["GET", "HEAD"], include_in_schema=False)
    async def models(name: str, request: Request) -> Response:
        return await shipped_model(name, request.scope)

    if page is not None:
        app.mount("/", Files(directory=page, html=True))
    _say_errors_in_one_line(app, limits)
    _describe_token(app, token)
    return Front(app, token, limits, counters)


def _fields(request: Request, upload: Upload) -> dict[str, str]:
    """The fields of the form and of the query. Raises Refused for unknown ones and for one given twice."""
    found = dict(upload.fields)
    for name, value in request.query_params.multi_items():
        if name not in FIELDS:
            raise Refused(400, f"the query has {name[:100]!r}; it may have {' and '.join(map(repr, FIELDS))}")
        if name in found:
            raise Refused(400, f"{name!r} is given twice")
        found[name] = value
    return found


async def _while_here(request: Request, work: Any) -> Any:
    """The result of a coroutine, which is cancelled when the client goes."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_leaves(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _say_errors_in_one_line(app: FastAPI, limits: Limits) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return refusal(error.status, error.message, error.headers)

    @app.exception_handler(Gone)
    async def gone(request: Request, error: Gone) -> Response:
        return refusal(_CLIENT_GONE, "the client has closed the connection")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            line = f"there is nothing at {request.url.path[:200]!r}; POST a picture to /v1/poses, see /openapi.json"
        elif error.status_code == 405:
            line = f"{request.method[:20]} is not possible here"
        else:
            line = str(error.detail)
        return refusal(error.status_code, line, {**(error.headers or {}), **await dismiss(request, limits)})

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return refusal(500, "the server has failed; its log says why")


def _describe_token(app: FastAPI, token: str | None) -> None:
    if token is None:
        return
    made = app.openapi

    def described() -> dict[str, Any]:
        schema = made()
        schema.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"token": []}]
        return schema

    app.openapi = described  # type: ignore[method-assign]
