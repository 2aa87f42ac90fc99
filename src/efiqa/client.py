"""A client of `efiqa serve`, synchronous and asynchronous, in one file: all it needs is httpx2.

>>> from efiqa.client import Client
>>> with Client("http://127.0.0.1:8000") as service:       # doctest: +SKIP
...     for picture in service.score("a.jpg", "b.jpg"):
...         print(picture.status, [face.score for face in picture.faces])

`AsyncClient` has the same methods, to be awaited.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import httpx2

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO
Faces = Literal["all", "largest", "none"]

BUSY = (429, 503)
"""Statuses of a service that may answer later; such requests are sent again."""
UNUSABLE = ("empty", "not_an_image", "corrupt", "too_large", "too_small", "too_many_faces")
"""Codes of errors that are about the one picture of a request, not about the request."""


class ServiceError(Exception):
    """The service refused. `code` is for programs, `hint` for people; `status` is HTTP's."""

    def __init__(
        self, message: str, *, status: int, code: str, hint: str | None = None, request_id: str = ""
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.hint, self.request_id = status, code, hint, request_id


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels of the upright picture; (x, y) is the top left corner. It may reach outside."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Face:
    """One face. `score` is nominally 0–1, `quality` its percentile (0–100) and `attributes` 0–100: higher is
    better. `box` is none where the picture was the crop; `decision` where the service has no policy."""

    score: float
    quality: float | None = None
    box: Box | None = None
    detection: float | None = None
    low: float | None = None
    high: float | None = None
    attributes: Mapping[str, float | None] | None = None
    decision: str | None = None
    reasons: Sequence[str] | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """`status` is `ok`, `no_face`, or why the picture cannot be used; `faces` are largest first."""

    status: str
    faces: Sequence[Face] = field(default_factory=tuple)
    decision: str | None = None
    message: str = ""


class Client:
    """Talks to the service at `url`, with `key` where it asks for one.

    While the service is busy, a request is sent again for up to `patience` seconds. `timeout` is seconds for
    one answer, `verify` what certificates are checked with, as in httpx2. Every method raises ServiceError
    where the service refuses, httpx2.TransportError where it cannot be reached.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        patience: float = 30,
        timeout: float = 60,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._patience = patience
        self._http = httpx2.Client(base_url=url, headers=_headers(key), timeout=timeout, verify=verify)

    def score(self, *images: Source, faces: Faces = "all", model: str | None = None) -> list[Picture]:
        """One Picture for each of `images`, in order: paths, bytes or binary files."""
        return _pictures(self._send(_score_request(images, faces, model)))

    def models(self) -> list[dict[str, Any]]:
        """The models that answer, the default first."""
        return list(_json(self._send(_get("/v1/models")))["models"])

    def card(self, model: str | None = None) -> dict[str, Any]:
        """A model's card: what its number means."""
        return _json(self._send(_get("/v1/card", model)))

    def ready(self) -> bool:
        """Does the service take work now?"""
        return self._http.get("/readyz").is_success

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, request: dict[str, Any]) -> httpx2.Response:
        until = time.monotonic() + self._patience
        while (wait := _wait(response := self._http.request(**request), until)) is not None:
            time.sleep(wait)
        return response


class AsyncClient:
    """As Client, for asyncio."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        patience: float = 30,
        timeout: float = 60,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._patience = patience
        self._http = httpx2.AsyncClient(base_url=url, headers=_headers(key), timeout=timeout, verify=verify)

    async def score(self, *images: Source, faces: Faces = "all", model: str | None = None) -> list[Picture]:
        """As Client.score."""
        request = await asyncio.to_thread(_score_request, images, faces, model)
        return _pictures(await self._send(request))

    async def models(self) -> list[dict[str, Any]]:
        """As Client.models."""
        return list(_json(await self._send(_get("/v1/models")))["models"])

    async def card(self, model: str | None = None) -> dict[str, Any]:
        """As Client.card."""
        return _json(await self._send(_get("/v1/card", model)))

    async def ready(self) -> bool:
        """As Client.ready."""
        return (await self._http.get("/readyz")).is_success

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, request: dict[str, Any]) -> httpx2.Response:
        until = time.monotonic() + self._patience
        while (wait := _wait(response := await self._http.request(**request), until)) is not None:
            await asyncio.sleep(wait)
        return response


def _wait(response: httpx2.Response, until: float) -> float | None:
    """Seconds to wait before the request is sent again; none where it is not to be."""
    if response.status_code not in BUSY:
        return None
    asked = response.headers.get("retry-after", "")
    wait = float(asked) if asked.isdecimal() else 1.0
    return wait if time.monotonic() + wait <= until else None


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _get(path: str, model: str | None = None) -> dict[str, Any]:
    return {"method": "GET", "url": path, "params": {} if model is None else {"model": model}}


def _score_request(images: Sequence[Source], faces: Faces, model: str | None) -> dict[str, Any]:
    """One picture goes as it is, several in parts; the names of files stay here."""
    if not images:
        raise ValueError("score needs at least one picture")
    parts = [_bytes(image) for image in images]
    params = {"faces": faces} if model is None else {"faces": faces, "model": model}
    request: dict[str, Any] = {"method": "POST", "url": "/v1/score", "params": params}
    if len(parts) == 1:
        return {**request, "content": parts[0], "headers": {"Content-Type": "application/octet-stream"}}
    return {**request, "files": [("images", (str(number), part)) for number, part in enumerate(parts)]}


def _bytes(image: Source) -> bytes:
    if isinstance(image, bytes):
        return image
    return Path(image).read_bytes() if isinstance(image, str | os.PathLike) else image.read()


def _pictures(response: httpx2.Response) -> list[Picture]:
    try:
        answer = _json(response)
    except ServiceError as error:
        if error.code in UNUSABLE:
            return [Picture(error.code, message=str(error))]
        raise
    return [_picture(image) for image in answer["images"]]


def _picture(image: dict[str, Any]) -> Picture:
    faces = []
    for face in image["faces"]:
        box = None if face["box"] is None else Box(**_known(Box, face["box"]))
        faces.append(Face(**{**_known(Face, face), "box": box}))
    return Picture(**{**_known(Picture, image), "faces": faces})


def _known(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Without what a newer service may say besides."""
    return {item.name: values[item.name] for item in dataclasses.fields(kind) if item.name in values}


def _json(response: httpx2.Response) -> dict[str, Any]:
    try:
        content: dict[str, Any] = response.json()
        error = None if response.is_success else content["error"]
        if error is None:
            return content
        message, code, hint = str(error["message"]), str(error["code"]), error["hint"]
    except (ValueError, LookupError, TypeError):  # somebody else's answer, such as a balancer's
        message, code, hint = f"status {response.status_code} without a reason", "unknown", None
    request_id = response.headers.get("x-request-id", "")
    raise ServiceError(message, status=response.status_code, code=code, hint=hint, request_id=request_id)
