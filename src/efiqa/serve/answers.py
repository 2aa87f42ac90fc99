"""What a service answers: rows of predictions as JSON, and their description for OpenAPI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from efiqa.records import ATTRIBUTES, Prediction
from efiqa.scorer import Scorer


class BoxAnswer(BaseModel):
    """Pixels of the upright picture; (x, y) is the top left corner. It may reach outside."""

    x: float
    y: float
    width: float
    height: float


class FaceAnswer(BaseModel):
    box: BoxAnswer | None = Field(description="null where the picture is the crop already (faces=none)")
    detection: float | None = Field(description="the detector's confidence, 0–1")
    score: float = Field(description="what the model's card says; nominally 0–1, higher is better")
    quality: float | None = Field(description="percentile of the score in the card's population, 0–100")
    low: float | None = Field(None, description="lower end of the score's interval, with --intervals")
    high: float | None = Field(None, description="its upper end")
    attributes: dict[str, float | None] | None = Field(
        None, description=f"{', '.join(ATTRIBUTES)}: each 0–100, higher is better; null where unknown"
    )
    decision: str | None = Field(None, description="accept, review or reject, with --policy")
    reasons: list[str] | None = Field(None, description="what speaks against the face, worst first")
    message: str = Field("", description="a note, such as that the face is small")


class ImageAnswer(BaseModel):
    status: str = Field(description="ok, no_face, or why the picture cannot be used (not_an_image, …)")
    faces: list[FaceAnswer] = Field(description="largest first; empty unless the status is ok")
    decision: str | None = Field(None, description="of a picture without a face, with --policy: reject")
    message: str = ""


EXAMPLE: Any = {
    "model": "efiqa-student@0.3.0",
    "images": [
        {
            "status": "ok",
            "faces": [
                {
                    "box": {"x": 176.2, "y": 58.4, "width": 101.3, "height": 101.3},
                    "detection": 0.9731,
                    "score": 0.61524,
                    "quality": 71.3,
                    "low": None,
                    "high": None,
                    "attributes": {"resolution": 63.7, "sharpness": 41.0, "tilt": None},
                    "decision": "review",
                    "reasons": ["quality", "sharpness"],
                    "message": "",
                }
            ],
            "decision": None,
            "message": "",
        }
    ],
}


class ScoreAnswer(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})
    model: str = Field(description="name@version")
    images: list[ImageAnswer] = Field(description="one for each picture, in the order sent")


class ModelAnswer(BaseModel):
    name: str
    version: str
    digest: str = Field(description="first 12 digits of the file's SHA-256")
    task: str
    meaning: str = Field(description="what the score means")
    input_size: int = Field(description="pixels a side")
    runtime: str
    precision: str
    policy: str | None = Field(description="the policy that decides, if any")
    default: bool = Field(description="does it answer where no model is asked for")


class ModelsAnswer(BaseModel):
    models: list[ModelAnswer]


class StatusAnswer(BaseModel):
    status: str = Field(examples=["ok"])


def score_answer(scorer: Scorer, pictures: Sequence[Sequence[Prediction]]) -> ScoreAnswer:
    return ScoreAnswer(model=scorer.card.source, images=[_image(rows, scorer) for rows in pictures])


def _image(rows: Sequence[Prediction], scorer: Scorer) -> ImageAnswer:
    first = rows[0]
    if first.status == "ok":
        return ImageAnswer(status="ok", faces=[_face(row, scorer) for row in rows], decision=None)
    message = "no face was found; faces=none scores the picture as it is"
    return ImageAnswer(
        status=first.status,
        faces=[],
        decision=first.decision,
        message=message if first.status == "no_face" else first.message,
    )


def _face(row: Prediction, scorer: Scorer) -> FaceAnswer:
    values: dict[str, Any] = {}
    if scorer.attributes:
        values["attributes"] = {name: getattr(row, name) for name in ATTRIBUTES}
        values["reasons"] = row.reasons.split(";") if row.reasons else []
    box = None
    if row.x is not None:
        box = BoxAnswer.model_validate({name: getattr(row, name) for name in BoxAnswer.model_fields})
    assert row.score is not None  # of a row that is ok
    return FaceAnswer(
        box=box,
        detection=row.detection,
        score=row.score,
        quality=row.quality,
        low=row.low,
        high=row.high,
        decision=row.decision,
        message=row.message,
        **values,
    )


def model_answer(scorer: Scorer, *, default: bool) -> ModelAnswer:
    card = scorer.card
    return ModelAnswer(
        name=card.name,
        version=card.version,
        digest=scorer.digest,
        task=card.task,
        meaning=card.meaning,
        input_size=card.input_size,
        runtime=scorer.opened.runtime,
        precision=scorer.opened.precision,
        policy=None if scorer.policy is None else scorer.policy.name,
        default=default,
    )
