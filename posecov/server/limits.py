"""What a client may ask of the server."""

import math
from dataclasses import dataclass, fields

from posecov.errors import PosecovError


@dataclass(frozen=True)
class Limits:
    """Bounds on size, number and time.

    Attributes:
        max_bytes: of a request's body.
        max_pixels: of a picture; it is refused before it is decoded.
        max_boxes: of a picture.
        max_concurrent: pictures worked on at once.
        max_waiting: further pictures that wait for their turn; more are turned away.
        max_connections: open at once.
        timeout: seconds from a body that is complete to its answer, waiting included.
        body_timeout: seconds for a body to arrive, and for a client to take what it was sent.
        header_timeout: seconds for the header of a request to arrive.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    max_boxes: int = 64
    max_concurrent: int = 8
    max_waiting: int = 32
    max_connections: int = 256
    timeout: float = 30.0
    body_timeout: float = 20.0
    header_timeout: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "max_waiting" else 1 if field.type is int else 0.001
            if not least <= value < math.inf:
                raise PosecovError(f"--{field.name.replace('_', '-')} must be at least {least:g}, not {value:g}")

    @property
    def places(self) -> int:
        """Pictures that may be inside, at work or waiting."""
        return self.max_concurrent + self.max_waiting
