"""Live pictures on the screen: a window where OpenCV has windows, a page on this computer elsewhere."""

import http.server
import os
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np

from posecov.errors import PosecovError
from posecov.files import reason

LOOPBACK = "127.0.0.1"
"""The only address that pictures are served on: a camera is not for the network."""

_BOUNDARY = "frame"
_QUIT = (ord("q"), ord("Q"), 27)
_PAGE = b"""<!doctype html><meta charset="utf-8"><title>posecov</title>
<style>body{margin:0;background:#161819}img{width:100vw;height:100vh;object-fit:contain}</style>
<img src="/stream" alt="live picture with poses">
"""


class Show(Protocol):
    """Where live pictures go; a context."""

    def __enter__(self) -> "Show": ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def __call__(self, image: np.ndarray) -> bool:
        """Show a picture (H, W, 3) uint8 BGR. False when the user has had enough."""


def has_windows(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether OpenCV can open a window here: not in its headless build, and not without a screen."""
    framework = getattr(cv2, "currentUIFramework", lambda: "")()
    # Asked for a window without a screen, Qt and GTK end the process.
    screen = not sys.platform.startswith("linux") or environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    return bool(framework) and bool(screen)


class Window:
    """A window; q, Escape or closing it ends. Belongs to the main thread."""

    def __init__(self, title: str):
        self._title = f"posecov {title}"
        self._open = False

    def __enter__(self) -> "Window":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            cv2.destroyWindow(self._title)

    def __call__(self, image: np.ndarray) -> bool:
        """As `Show`."""
        try:
            if not self._open:
                cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
                cv2.resizeWindow(self._title, image.shape[1], image.shape[0])
                self._open = True
            cv2.imshow(self._title, image)
            closed = (cv2.waitKey(1) & 0xFF) in _QUIT or cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:
            raise PosecovError("OpenCV cannot open a window here; add --show browser") from None
        self._open = not closed
        if closed:
            cv2.destroyWindow(self._title)
        return not closed


class Browser:
    """Serves live pictures as MJPEG on this computer alone.

    Attributes:
        url: of the page.
    """

    def __init__(self, port: int):
        """Take a port; 0 takes a free one. Raises PosecovError when it is taken."""
        browser = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                browser._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are not news."""

        try:
            self._server = http.server.ThreadingHTTPServer((LOOPBACK, port), Handler)
        except (OSError, OverflowError) as error:
            raise PosecovError(f"port {port} cannot be used ({reason(error)}); give another --port, or 0 for any") from None
        self._server.daemon_threads = True
        self.url = f"http://{LOOPBACK}:{self._server.server_port}/"
        self._change = threading.Condition()
        self._jpeg, self._number, self._over = b"", 0, False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def __enter__(self) -> "Browser":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._over = True
            self._change.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def __call__(self, image: np.ndarray) -> bool:
        """As `Show`; a page cannot end anything."""
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
        with self._change:
            self._jpeg, self._number = jpeg, self._number + 1
            self._change.notify_all()
        return True

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        # A page elsewhere whose name was made to point here (DNS rebinding) gives itself away by that name.
        host = request.headers.get("Host", "").rsplit(":", 1)[0]
        if host not in (LOOPBACK, "localhost"):
            request.send_error(403)
        elif request.path == "/":
            request.send_response(200)
            request.send_header("Content-Type", "text/html; charset=utf-8")
            request.send_header("Content-Length", str(len(_PAGE)))
            request.end_headers()
            request.wfile.write(_PAGE)
        elif request.path == "/stream":
            self._stream(request)
        else:
            request.send_error(404)

    def _stream(self, request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        request.send_header("Cache-Control", "no-store")
        request.send_header("Cross-Origin-Resource-Policy", "same-origin")
        request.end_headers()
        request.close_connection = True
        sent = 0
        try:
            while True:
                with self._change:
                    # A viewer that is slow gets the newest picture, not all of them.
                    while self._number == sent and not self._over:
                        self._change.wait()
                    if self._over:
                        return
                    jpeg, sent = self._jpeg, self._number
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                request.wfile.write(head.encode() + jpeg + b"\r\n")
        except OSError:
            return  # The viewer has gone.


class Nowhere:
    """Shows nothing: the film is for later."""

    def __enter__(self) -> "Nowhere":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, image: np.ndarray) -> bool:
        """As `Show`."""
        return True
