"""The shapes of version 1 of the API, as OpenAPI shows them; what is answered is tested against them.

Responses are written by the records themselves (`Prediction.to_dict`, `AdAnswer.to_dict`): these classes describe, and
read what a client says in words. Fields may be added, never renamed.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

EXAMPLE: dict[str, Any] = {
    "photo": "a.jpg",
    "width": 800,
    "height": 600,
    "kind": {"name": "exterior", "probability": 0.99},
    "vehicles": [
        {
            "box": [12.5, 80.0, 760.2, 540.9],
            "score": 0.98,
            "viewpoint": {"name": "front-left", "probability": 0.93},
            "colour": {"name": "red", "probability": 0.97},
            "body": {"name": "coupe", "probability": 0.88},
            "answer": {"level": "model", "name": "Audi TTS Coupe", "probability": 0.91},
            "levels": {
                "make": [{"name": "Audi", "probability": 0.97}],
                "model": [{"name": "Audi TTS Coupe", "probability": 0.91}],
                "generation": [{"name": "Audi TTS Coupe", "probability": 0.91}],
                "year": [{"name": "Audi TTS Coupe 2012", "probability": 0.91}],
            },
            "undecided": None,
        }
    ],
    "error": None,
    "undecided": None,
    "bundles": {"finder": "mobilenetv3s.finder", "identifier": "mobilenetv3-small.cars"},
    "milliseconds": {"decode": 4.1, "find": 13.0, "identify": 17.8, "queue": 0.2, "total": 36.1},
}


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow")


class Named(_Shape):
    """A name with its probability."""

    name: str
    probability: float = Field(ge=0, le=1)


class AnswerShape(Named):
    """The deepest level that is sure enough."""

    level: Literal["make", "model", "generation", "year"]


class VehicleShape(_Shape):
    """One vehicle; `box` is x1, y1, x2, y2 in pixels of the upright photo."""

    box: list[float] = Field(min_length=4, max_length=4)
    score: float = Field(ge=0, le=1)
    viewpoint: Named
    colour: Named | None = Field(description="One word, or null where it is not sure.")
    body: Named | None = Field(description="One word, or null where it is not sure.")
    attributes: dict[str, Named | None] = Field(default={}, description="Of your own; null where one is not sure.")
    answer: AnswerShape | None
    levels: dict[str, list[Named]]
    undecided: str | None


class ErrorShape(_Shape):
    """Why one photo of an ad could not be read."""

    type: str
    message: str


class PredictionShape(_Shape):
    """All that is said of one photo."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [EXAMPLE]})
    photo: str
    width: int | None
    height: int | None
    kind: Named | None
    vehicles: list[VehicleShape]
    error: ErrorShape | None
    undecided: str | None = Field(description="Why no vehicle is answered, in words.")
    bundles: dict[str, str]
    milliseconds: dict[str, float]


class AdPhotoShape(_Shape):
    """What one photo is to its ad."""

    role: Literal["view", "other-vehicle", "interior", "detail", "other", "duplicate", "unreadable"]
    duplicate_of: int | None
    weight: float = Field(ge=0, le=1)
    why: str | None
    prediction: PredictionShape


class ViewsShape(_Shape):
    """Which sides the photos show, and which they do not."""

    seen: list[str]
    missing: list[str]


class ComparisonShape(_Shape):
    """What is declared against what the photos show; `photos` are those that decide."""

    verdict: Literal["agrees", "contradicts", "cannot-tell"]
    name: str | None
    probability: float | None
    photos: list[int]
    why: str


class DeclaredShape(ComparisonShape):
    """The verdict on make, model and year, as deep as `level`; null where no colour, or no body, was declared."""

    level: str | None
    colour: ComparisonShape | None
    body: ComparisonShape | None


class ScorePartShape(_Shape):
    """One part of a score."""

    name: str
    points: float = Field(ge=0)
    most: int
    why: str | None = Field(description="Why points are lost, in words; photos are numbered from 1.")


class ScoreShape(_Shape):
    """How good the photos are as a set, as a buyer sees them."""

    total: int = Field(ge=0, le=100)
    parts: list[ScorePartShape]


class AdShape(_Shape):
    """One answer for all photos of an ad."""

    answer: AnswerShape | None
    undecided: str | None
    colour: Named | None
    body: Named | None
    levels: dict[str, list[Named]]
    lead: int | None
    views: ViewsShape
    declared: DeclaredShape | None
    score: ScoreShape
    photos: list[AdPhotoShape]
    bundles: dict[str, str]
    milliseconds: dict[str, float]


class ProblemShape(_Shape):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str


class ExtentShape(_Shape):
    """How much an identifier can name."""

    makes: int
    models: int
    years: list[int] | None = Field(description="First and last, where it knows any.")


class BundleShape(_Shape):
    """A model bundle in use."""

    task: Literal["finder", "identifier", "attribute"]
    name: str
    classes: int | None
    knows: ExtentShape | None
    attributes: dict[str, list[str]] = Field(description="Further attributes, such as colour, with their words.")
    input: list[int]
    card: dict[str, Any]


class ModelsShape(_Shape):
    """What the service answers with, and what it takes."""

    version: str
    bundles: list[BundleShape]
    limits: dict[str, int]
    formats: list[str]
    urls: bool
    feedback: bool


class TaxonShape(_Shape):
    """One class; unknown parts are missing, and a class without a model is a make of which no model is known."""

    make: str
    model: str | None = None
    generation: str | None = None
    year: int | None = None
    body: str | None = None


class TaxonomyShape(_Shape):
    """All that can be named, in the order of the network's classes; `aliases` are other spellings of makes."""

    format: int
    levels: list[str]
    classes: list[TaxonShape]
    aliases: dict[str, str]


class FeedbackShape(BaseModel):
    """Say of an answer whether it was right, and what the vehicle is."""

    model_config = ConfigDict(extra="forbid")
    request_id: str = Field(pattern="^[0-9a-f]{32}$", examples=["5f3a9c0d2b7e4f61a8c95d0e1f2a3b4c"])
    right: bool
    said: str | None = Field(default=None, max_length=200, examples=["Audi A4 2012"])


class DeclaredWords(BaseModel):
    """What a seller declared, in the seller's words."""

    model_config = ConfigDict(extra="ignore")
    make: str | None = Field(default=None, max_length=200)
    model: str | None = Field(default=None, max_length=200)
    year: int | None = Field(default=None, ge=1900, le=2100)
    colour: str | None = Field(default=None, max_length=200)
    body: str | None = Field(default=None, max_length=200)
    title: str | None = Field(default=None, max_length=500)


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": words,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemShape"}}},
    }
    for status, words in {
        400: "The body broke off.",
        401: "The key is missing or wrong.",
        403: "URLs are not read here.",
        404: "Nothing of this name is held.",
        408: "The body came too slowly.",
        413: "Too many bytes, pixels or photos.",
        415: "No photo that can be read.",
        422: "The photo is broken, or a field is wrong.",
        429: "The queue is full, or the key's rate is reached; Retry-After says when.",
        500: "The service failed; its log says more.",
        503: "The service is stopping.",
        504: "The deadline passed.",
    }.items()
}
