"""Sockets, processes and signals: how an application is served, and how it stops."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from efiqa.errors import EfiqaError, InvalidArgument
from efiqa.serve.metrics import SHARED
from efiqa.serve.problems import Problem

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; with a `certificate` and its `key`, PEM files, by TLS."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None

    def listen(self) -> socket.socket:
        """Raises InvalidArgument for an address that cannot be had, and files that are no certificate."""
        if self.certificate is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key)
            except (OSError, ssl.SSLError) as error:
                raise InvalidArgument(
                    f"{self.certificate} and {self.key or 'it'} are no certificate and key: {error}"
                ) from error
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            listening = socket.create_server((self.host, self.port), family=family, backlog=BACKLOG)
        except (OSError, OverflowError) as error:
            raise InvalidArgument(
                f"{self.host} port {self.port} cannot be listened at: {error}",
                hint="--port takes another; 0 any that is free",
            ) from error
        # Connections inherit it; asyncio sets it on sockets that name TCP only, which this one does not.
        # Without it the body of an answer waits up to 40 ms for the client to acknowledge the head.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening

    def url(self, listening: socket.socket) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://{host}:{listening.getsockname()[1]}"


class Connection(H11Protocol):
    """One connection: given up where it brings no headers, or never ends an answered body, for too long.

    Uvicorn itself waits for the first byte, and for the rest of headers, for ever.
    """

    _patience: asyncio.TimerHandle | None = None

    @property
    def _working(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._limits = self.config.app.state.limits  # type: ignore[union-attr]
        if len(self.connections) > self._limits.connections:
            transport.abort()
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._working:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._working:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(self._limits.read_timeout, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()

    def _give_up(self) -> None:
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(Problem(408, "too_slow", f"no headers in {self._limits.read_timeout:g} s"))
        else:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets the same kind of body as everything else."""
        self._refuse(Problem(400, "bad_request", msg))

    def _refuse(self, problem: Problem) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = bytes(problem.response().body)
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
        }
        for event in (
            h11.Response(status_code=problem.status, headers=list(headers.items())),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """What was accepted is finished, however the server ends.

    On SIGTERM it says 503 to new work for `drain` seconds, so that balancers and clients turn elsewhere, and
    then closes. On a second signal, and on Ctrl-C, it closes at once.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain: float, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._state, self._drain, self._ready = app.state, drain, ready
        self._close_at = float("inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and not self._state.draining:
            self._close_at = time.monotonic() + self._drain
        else:
            super().handle_exit(sig, frame)
        self._state.draining = True

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or time.monotonic() >= self._close_at


def serve(
    make_app: Callable[[], FastAPI],
    address: Address,
    *,
    processes: int = 1,
    drain: float = 3,
    log_requests: bool = True,
    ready: Callable[[str], None],
) -> None:
    """Serve until a signal. `make_app` can be pickled; `ready` is told the URL when requests are answered.

    Raises what `make_app` and Address.listen raise, before anything listens.
    """
    shared = tempfile.TemporaryDirectory(prefix="efiqa-metrics-") if processes > 1 else None
    if shared is not None:
        os.environ[SHARED] = shared.name
    try:
        app: FastAPI | None = make_app()
        with address.listen() as listening:
            if processes == 1:
                assert app is not None
                _run(app, listening, address, drain, log_requests, lambda: ready(address.url(listening)))
            else:
                app = None  # it was made to find mistakes before there are processes
                arguments = (make_app, listening, address, drain, log_requests)
                _supervise(processes, arguments, lambda: ready(address.url(listening)))
    finally:
        if shared is not None:
            del os.environ[SHARED]
            shared.cleanup()


def _run(
    app: FastAPI,
    listening: socket.socket,
    address: Address,
    drain: float,
    log_requests: bool,
    ready: Callable[[], None],
) -> None:
    """One process, until a signal."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    log = logging.getLogger("efiqa.serve")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO if log_requests else logging.WARNING)
    limits = app.state.limits
    config = uvicorn.Config(
        app,
        http=Connection,
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
        # Work that was accepted has ended by then; what is left are clients that send or read too slowly.
        timeout_graceful_shutdown=round(limits.read_timeout + limits.timeout + 60),
    )
    with suppress(KeyboardInterrupt):
        Server(config, app, drain, ready).run([listening])


def _process(
    make_app: Callable[[], FastAPI],
    listening: socket.socket,
    address: Address,
    drain: float,
    log_requests: bool,
    ready: Event,
) -> None:
    _run(make_app(), listening, address, drain, log_requests, ready.set)


def _supervise(count: int, arguments: tuple[Any, ...], ready: Callable[[], None]) -> None:
    """`count` processes that share a socket; one that dies is replaced, until a signal ends all.

    `ready` is called once, when all of them answer. Raises EfiqaError where a process ends before it was
    ready: the next one would, too.
    """
    context = multiprocessing.get_context("spawn")
    stop: list[int] = []
    before = {
        sig: signal.signal(sig, lambda sig, _: stop.append(sig)) for sig in (signal.SIGTERM, signal.SIGINT)
    }
    started: dict[SpawnProcess, Event] = {}
    said = False
    try:
        while not stop:
            while len(started) < count:
                answers = context.Event()
                process = context.Process(target=_process, args=(*arguments, answers))
                process.start()
                started[process] = answers
            if not said and all(answers.is_set() for answers in started.values()):
                ready()
                said = True
            wait([process.sentinel for process in started], timeout=0.2)
            for process in [process for process in started if not process.is_alive()]:
                if not started.pop(process).is_set() and not stop:
                    raise EfiqaError(f"a process ended with {process.exitcode} before it was ready")
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.join()
        for sig, handler in before.items():
            signal.signal(sig, handler)
