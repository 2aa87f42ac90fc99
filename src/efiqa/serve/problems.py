"""What goes wrong in a request: a status, and a small typed body that says what and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field


class Error(BaseModel):
    """`code` is for programs and does not change between versions; `message` and `hint` are for people."""

    code: str
    message: str
    hint: str | None = None


class ErrorBody(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "not_an_image",
                        "message": "the byte string must be JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC, "
                        "but begins with b'<html>'",
                        "hint": "send the bytes of the picture file as they are",
                    }
                }
            ]
        }
    )
    error: Error = Field(description="what went wrong")


class Problem(Exception):
    """Ends a request with `status` and this error."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers
        self.error = Error(code=code, message=message, hint=hint)

    def response(self) -> JSONResponse:
        content = ErrorBody(error=self.error).model_dump()
        return JSONResponse(content, self.status, headers=dict(self.headers or {}))


MEANING = {
    401: "no key, or one that is not known",
    404: "no such model",
    405: "another method",
    408: "headers or body came too slowly",
    413: "the body, a picture or the number of pictures is over a limit",
    415: "a body of a kind that is not read",
    422: "a picture or a parameter that cannot be used",
    429: "more work than can wait; come back after Retry-After seconds",
    500: "a mistake of the service",
    503: "the service is going down; another one may answer",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What FastAPI is told about errors of a route."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        found[status] = {"model": ErrorBody, "description": MEANING[status]}
        if status in (429, 503):
            found[status]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return found
