"""The parts of the OpenAPI description that FastAPI cannot know."""

from typing import Any

from posecov.server.limits import Limits

_BOXES = "[[40, 20, 120, 300]]"
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string", "description": "one line"}}}
_KEYPOINT = {
    "x": 118.3,
    "y": 164.1,
    "sigma": 3.2,
    "ellipse": {"semi_major": 9.1, "semi_minor": 6.4, "angle": 0.61},
    "outside": False,
}
_ANSWER = {
    "image": "photo.jpg",
    "width": 320,
    "height": 480,
    "model": "posecov-lsp14-small",
    "mass": 0.95,
    "people": [
        {
            "box": [40.0, 20.0, 120.0, 300.0],
            "names": ["l_elbow", "..."],
            "keypoints": {"l_elbow": _KEYPOINT},
            "covariance": [[10.2, 1.1, "..."], ["..."]],
            "degrees_of_freedom": 4.2,
            "known": [],
            "skeleton": {"...": "..."},
            "components": {"...": "..."},
            "alternatives": [{"probability": 0.04, "keypoints": {"l_elbow": {"x": 96.0, "y": 161.7, "sigma": 3.4}}}],
        }
    ],
}
_REFUSALS = {
    400: ("The form, the boxes or the mass cannot be read", "boxes must be a list, [[x, y, width, height], ...]"),
    401: ("The token is missing or wrong", "this needs the server's token, as Authorization: Bearer TOKEN"),
    408: ("The body arrives too slowly", "the body did not arrive within 20 s"),
    411: (
        "The body's length is not announced, nor is it chunked",
        "the request has no Content-Length; send the picture as its body",
    ),
    413: ("Too many bytes or pixels", "the body is longer than 20 MB; send a smaller picture"),
    415: ("Not a picture that can be read", "photo.jpg: not a picture that can be read (JPEG, PNG, BMP, WebP, TIFF, GIF can)"),
    422: ("A box cannot be used, or there are too many", "box 0 lies outside the picture, which has 320 x 480 pixels"),
    503: ("Busy; Retry-After says when to come back", "40 pictures are being worked on or waiting; try again in a moment"),
    504: ("It took too long", "it took longer than 30 s; send a smaller picture, or boxes"),
}


def responses() -> dict[int | str, dict[str, Any]]:
    """What ``POST /v1/poses`` answers."""
    found: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "The document that `posecov image` writes; `people` is empty when nobody was found",
            "content": {"application/json": {"schema": {"type": "object"}, "example": _ANSWER}},
        }
    }
    for status, (description, line) in _REFUSALS.items():
        found[status] = {
            "description": description,
            "content": {"application/json": {"schema": _ERROR, "example": {"error": line}}},
        }
    return found


def request(limits: Limits) -> dict[str, Any]:
    """What ``POST /v1/poses`` takes."""
    picture = {"type": "string", "format": "binary", "description": f"a picture of at most {limits.max_bytes} bytes"}
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": picture,
            "boxes": {"type": "string", "example": _BOXES, "description": "JSON, as in the query"},
            "mass": {"type": "string", "example": "0.95", "description": "as in the query"},
        },
    }
    raw = {kind: {"schema": picture} for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream")}
    parameters = [
        _query(
            "boxes",
            _BOXES,
            f"JSON: x, y, width, height of up to {limits.max_boxes} people, pixels; without it they are searched for",
        ),
        _query("mass", "0.95", "probability with which an ellipse holds its joint"),
    ]
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}, **raw}},
        "parameters": parameters,
    }


def _query(name: str, example: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string"}, "example": example}
