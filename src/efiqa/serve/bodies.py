"""Request bodies → the bytes of their pictures: raw, multipart, or base64 in JSON; always in memory."""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart import MultipartParser
from python_multipart.multipart import parse_options_header

from efiqa.serve.limits import MIN_RATE, Limits
from efiqa.serve.problems import Problem

JSON, MULTIPART, RAW = "application/json", "multipart/form-data", "application/octet-stream"
EXPECTED = "image/*, application/octet-stream, multipart/form-data or application/json"
MARKS = 1000
"""JSON of pictures has few brackets and commas: of base64 they are no part. Many would cost much memory."""


SMALLEST = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR42mNsYIAAJgaKGAAmCACQtTEKkQAAAABJRU5ErkJggg=="
)
"""An example that can be sent as it stands: a grey PNG of 8 × 8 pixels, without a face."""


class Base64Pictures(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"images": [SMALLEST]}]})
    images: list[str] = Field(min_length=1, description="picture files in base64 (RFC 4648), padded")


class Intake:
    """Reads bodies, of one process, within its limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0

    @asynccontextmanager
    async def pictures(self, request: Request) -> AsyncIterator[list[bytes]]:
        """The bytes of each picture of the request; they count as held until the context ends."""
        kind = self._kind(request)
        self._check_announced(request)
        held = 0
        try:
            body = bytearray()
            loop = asyncio.get_running_loop()
            deadline = loop.time() + self.limits.read_timeout
            try:
                async with asyncio.timeout_at(deadline) as patience:
                    async for chunk in request.stream():
                        self.held += len(chunk)
                        held += len(chunk)
                        self._check(held)
                        body += chunk
                        patience.reschedule(deadline + held / MIN_RATE)
            except TimeoutError as error:
                raise Problem(
                    408,
                    "too_slow",
                    f"the body took more than {self.limits.read_timeout:g} s, at under {MIN_RATE:,} bytes/s",
                    headers={"Connection": "close"},
                ) from error
            yield self._split(kind, request.headers.get("content-type", ""), body)
        finally:
            self.held -= held

    def _kind(self, request: Request) -> str:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            raise Problem(415, "unsupported_encoding", f"a body must not be encoded, but is {encoding[:40]}")
        if kind not in (JSON, MULTIPART, RAW) and not kind.startswith("image/"):
            got = kind[:80] or "none"
            raise Problem(
                415,
                "unsupported_media_type",
                f"the content type must be {EXPECTED}, but is {got}",
                "curl -H 'Content-Type: image/jpeg' --data-binary @photo.jpg, or curl -F images=@photo.jpg",
            )
        return kind

    def _check_announced(self, request: Request) -> None:
        """Refuse what says beforehand that it is too large: then not a byte of it is read."""
        length = request.headers.get("content-length", "")
        if length.isdecimal():
            self._check(int(length), announced=True)

    def _check(self, size: int, *, announced: bool = False) -> None:
        if size > self.limits.body:
            raise Problem(
                413,
                "body_too_large",
                f"the body has more bytes than the limit of {self.limits.body:,}",
                "send fewer pictures a request, or smaller ones",
            )
        if self.held + size * announced > self.limits.held:
            raise Problem(
                429,
                "busy",
                f"requests of more than {self.limits.held:,} bytes together are not held at a time",
                "send again later",
                {"Retry-After": "1"},
            )

    def _split(self, kind: str, content_type: str, body: bytearray) -> list[bytes]:
        if kind == JSON:
            pictures = _from_json(body, self.limits.images)
        elif kind == MULTIPART:
            pictures = _parts(body, content_type, self.limits.images)
        else:
            pictures = [bytes(body)]
        if not pictures:
            raise Problem(422, "no_image", "the request has no picture")
        return pictures


def _too_many(limit: int) -> Problem:
    return Problem(
        413,
        "too_many_images",
        f"the request has more pictures than the limit of {limit:,}",
        "send them in several requests",
    )


def _from_json(body: bytearray, limit: int) -> list[bytes]:
    if sum(map(body.count, (b"[", b"{", b","))) > MARKS + limit:
        raise _too_many(limit)
    try:
        images = Base64Pictures.model_validate_json(body).images
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, problem["loc"][:2])) or "it"
        raise Problem(
            422,
            "bad_json",
            f'the body must be {{"images": [base64, …]}}, but of {where[:80]}: {problem["msg"][:200]}',
        ) from error
    if len(images) > limit:
        raise _too_many(limit)
    pictures = []
    for number, image in enumerate(images):
        try:
            pictures.append(binascii.a2b_base64(image, strict_mode=True) if image else b"")
        except ValueError as error:
            hint = "leave out what stands before the comma" if image.startswith("data:") else None
            raise Problem(422, "not_base64", f"images.{number} is not base64: {error}", hint) from error
    return pictures


def _parts(body: bytearray, content_type: str, limit: int) -> list[bytes]:
    """Every part is a picture, whatever its name."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    parts: list[bytearray] = []
    ended = False

    def begin() -> None:
        if len(parts) == limit:
            raise _too_many(limit)
        parts.append(bytearray())

    def data(block: bytes, start: int, end: int) -> None:
        parts[-1] += memoryview(block)[start:end]

    def end() -> None:
        nonlocal ended
        ended = True

    try:
        if boundary:
            callbacks: Any = {"on_part_begin": begin, "on_part_data": data, "on_end": end}
            MultipartParser(boundary, callbacks).write(bytes(body))
        reason = "its end is missing" if boundary else "the content type names no boundary"
    except ValueError as error:
        ended, reason = False, str(error)
    if not ended:
        raise Problem(
            422,
            "bad_multipart",
            f"the body cannot be taken apart: {reason}",
            "most clients write the boundary and its end themselves: set no content type of your own",
        )
    return [bytes(part) for part in parts]
