"""The service as an ASGI application: what is asked at which address."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from efiqa import __version__
from efiqa.errors import InvalidArgument
from efiqa.records import Prediction
from efiqa.scorer import Faces, Scorer
from efiqa.serve.answers import ModelsAnswer, ScoreAnswer, StatusAnswer, model_answer, score_answer
from efiqa.serve.bodies import JSON, MULTIPART, RAW, Base64Pictures, Intake
from efiqa.serve.desk import Desk
from efiqa.serve.door import Door
from efiqa.serve.limits import Limits
from efiqa.serve.metrics import CONTENT_TYPE, Metrics
from efiqa.serve.page import page
from efiqa.serve.problems import MEANING, Problem, documented

BINARY = {"schema": {"type": "string", "format": "binary"}}
BODY = {
    "requestBody": {
        "required": True,
        "description": "One picture as it is, or several in parts or in JSON.",
        "content": {
            "image/jpeg": BINARY,
            RAW: BINARY,
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array", "minItems": 1, "items": BINARY["schema"]}},
                }
            },
            JSON: {"schema": Base64Pictures.model_json_schema()},
        },
    }
}
BEARER = HTTPBearer(auto_error=False, description="a key of this service")
ABOUT = """Scores the faces in pictures. No picture is kept.

Of a request with one picture that cannot be used the answer is an error; of one with several, each picture
has a status of its own."""


class ScoreQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")
    faces: Faces = Field(
        "all", description="all, largest first; the largest only; none: the picture is a face crop already"
    )
    model: str | None = Field(None, description="name or name@version; default: the first of /v1/models")


class CardQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model: str | None = None


def create_app(
    scorers: Sequence[Scorer],
    *,
    limits: Limits | None = None,
    keys: Sequence[str] = (),
    origins: Sequence[str] = (),
    page_folder: Path | None = None,
) -> FastAPI:
    """A service of these models, the first of which is the default; ready when this returns.

    With `keys`, whoever wants a score needs one of them. `origins` are those whose pages browsers let call.
    While `app.state.draining`, new work is refused with 503. Raises InvalidArgument for no model, and
    two of one name; what loading a detector raises.
    """
    if not scorers:
        raise InvalidArgument("a service needs a model")
    models = {scorer.card.name: scorer for scorer in scorers}
    if len(models) < len(scorers):
        raise InvalidArgument("two models have the same name", hint="a request could not say which it means")
    for scorer in scorers:
        scorer.predict(np.zeros((64, 64, 3), np.uint8))  # loads the detector: no client waits for that
    limits = limits or Limits()
    metrics = Metrics()
    desk = Desk(max(scorer.workers for scorer in scorers), limits, metrics)
    intake = Intake(limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(
        title="efiqa",
        version=__version__,
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.draining = False
    app.state.limits = limits
    app.add_middleware(Door, state=app.state, metrics=metrics)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    _answer_errors(app)
    guarded = [Depends(_guard(keys))] if keys else []
    refused = (401,) if keys else ()

    def chosen(name: str | None) -> Scorer:
        if name is None:
            return scorers[0]
        for scorer in scorers:
            if name in (scorer.card.name, scorer.card.source):
                return scorer
        raise Problem(404, "unknown_model", "there is no such model here", f"there is {', '.join(models)}")

    @app.post(
        "/v1/score",
        response_model=ScoreAnswer,
        responses=documented(*refused, 404, 408, 413, 415, 422, 429, 503),
        openapi_extra=BODY,
        dependencies=guarded,
        summary="Score the faces in one picture or several",
    )
    async def score(request: Request, query: Annotated[ScoreQuery, Query()]) -> Response:
        _working(request)
        scorer = chosen(query.model)
        desk.check_room()
        async with intake.pictures(request) as pictures:
            rows = await desk.predict(scorer, pictures, query.faces, _gone(request))
        if len(rows) == 1 and rows[0][0].status not in ("ok", "no_face"):
            raise _unusable(rows[0][0])
        return Response(score_answer(scorer, rows).model_dump_json(), media_type=JSON)

    @app.get("/v1/models", dependencies=guarded, responses=documented(*refused), summary="What can be asked")
    async def list_models() -> ModelsAnswer:
        return ModelsAnswer(models=[model_answer(scorer, default=scorer is scorers[0]) for scorer in scorers])

    @app.get(
        "/v1/card",
        dependencies=guarded,
        responses=documented(*refused, 404, 422),
        response_model=dict[str, Any],
        summary="A model's card: what its number means, what it learnt from, where it fails",
    )
    async def card(query: Annotated[CardQuery, Query()]) -> Response:
        return Response(chosen(query.model).card.to_json(), media_type=JSON)

    @app.get(
        "/metrics",
        dependencies=guarded,
        response_class=Response,
        responses={200: {"content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}, **documented(*refused)},
        summary="Numbers for Prometheus",
    )
    async def numbers() -> Response:
        return Response(metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/healthz", summary="Does the process live")
    async def health() -> StatusAnswer:
        return StatusAnswer(status="ok")

    @app.get("/readyz", responses=documented(503), summary="Does it take work")
    async def readiness(request: Request) -> StatusAnswer:
        _working(request)
        return StatusAnswer(status="ready")

    if page_folder is not None:
        app.mount("/", page(page_folder), name="page")
    return app


def _working(request: Request) -> None:
    if request.app.state.draining:
        raise Problem(
            503, "draining", MEANING[503], "send again after Retry-After seconds", {"Retry-After": "1"}
        )


async def _gone(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _unusable(row: Prediction) -> Problem:
    status = 413 if row.status == "too_large" else 422
    return Problem(status, row.status, row.message)


def _guard(keys: Sequence[str]) -> Any:
    """A dependency that lets those in who bring one of the keys; all are compared, in constant time."""
    known = [hashlib.sha256(key.encode()).digest() for key in keys]

    async def guard(given: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]) -> None:
        if given is None:
            raise _unknown("no_key", "this service needs a key")
        # Headers are bytes, which Starlette reads as Latin-1.
        digest = hashlib.sha256(given.credentials.encode("latin-1")).digest()
        if sum(hmac.compare_digest(digest, each) for each in known) == 0:
            raise _unknown("wrong_key", "the key is not known")

    return guard


def _unknown(code: str, message: str) -> Problem:
    return Problem(401, code, message, "Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})


def _answer_errors(app: FastAPI) -> None:
    """Every error that routes raise, in the one form."""

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def parameter(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return Problem(422, "bad_parameter", f"{first['loc'][-1]}: {first['msg']}"[:200]).response()

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        hint = "/openapi.json describes what can be asked" if error.status_code == 404 else None
        return Problem(error.status_code, code, str(error.detail), hint, error.headers).response()
