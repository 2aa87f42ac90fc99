"""The door: around every request its id, its line in the log, its count, and an answer whatever happens."""

from __future__ import annotations

import logging
import re
import time
import traceback
import uuid

from starlette.datastructures import Headers, MutableHeaders, State
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from efiqa.serve.desk import ClientGone
from efiqa.serve.metrics import Metrics
from efiqa.serve.problems import MEANING, Problem

CLIENT_GONE = 499
"""What the log and the metrics call a request whose client left; nobody receives it."""
METHODS = {"GET", "HEAD", "POST", "OPTIONS"}
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger("efiqa.serve")


class Door:
    """ASGI middleware. What is logged: method, the route's pattern, status, time and the request's id.

    Neither address nor query of a client is, nor anything of a body.
    """

    def __init__(self, app: ASGIApp, state: State, metrics: Metrics) -> None:
        self.app, self.state, self.metrics = app, state, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        number = given if _ID.fullmatch(given) else uuid.uuid4().hex
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = number
                if self.state.draining:
                    headers["Connection"] = "close"
            await send(message)

        try:
            await self.app(scope, receive, send_marked)
        except (ClientDisconnect, ClientGone):
            status = CLIENT_GONE
        except Exception as error:  # noqa: BLE001, the last door: our mistake must not end the service
            # Without the message, which may hold something of the picture.
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("%s in request %s\n%s", type(error).__name__, number, frames)
            if not status:
                await Problem(500, "internal", MEANING[500], f"request {number}").response()(
                    scope, receive, send_marked
                )
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", None) or ("page" if status < 400 else "unknown")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.answered(route, method, status, seconds)
            log.info("%s %s %d %.1fms id=%s", method, route, status, 1000 * seconds, number)
