"""An S3 server on loopback that can break, run as a process of its own: prints its port.

After a request of /_break every fifth read of an object is answered 503, and every fifth breaks off half-way;
/_faults says how many of each there were.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your rate</Message></Error>"
)


class Faulty:
    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._reads = itertools.count()
        self._broken = False
        self._faults: Counter[str] = Counter()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path in ("/_break", "/_faults"):
            self._broken = self._broken or path == "/_break"
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._faults).encode()]
        if self._broken and environ["REQUEST_METHOD"] == "GET" and path.endswith((".tar", ".png")):
            number = next(self._reads) % 5
            if number == 1:
                self._faults["503"] += 1
                start_response("503 Slow Down", [("Content-Length", str(len(SLOW_DOWN)))])
                return [SLOW_DOWN]
            if number == 3:
                self._faults["cut"] += 1
                return _half(self._application(environ, start_response))
        return self._application(environ, start_response)


def _half(answer: Iterable[bytes]) -> Iterator[bytes]:
    data = b"".join(answer)
    yield data[: len(data) // 2]
    raise ConnectionError("cut on purpose")


if __name__ == "__main__":
    server = make_server(
        "127.0.0.1", 0, Faulty(DomainDispatcherApplication(create_backend_app)), threaded=True
    )
    print(server.port, flush=True)  # noqa: T201
    server.serve_forever()
