"""What the recogniser says about a photo, as frozen records, and their JSON.

In: names, numbers and boxes from the stages. Out: records, and `Prediction.to_dict` / `from_dict` for programs. The
records check what is cheap to check (ValueError) and know no network, no file and no web framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, overload

from carspotter.errors import CarspotterError
from carspotter.geometry import BoundingBox

KindName = Literal["exterior", "interior", "detail", "other"]
KINDS: tuple[KindName, ...] = get_args(KindName)

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
_SPLIT_WORDS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "trainset": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "holdout": "test",
    "hold-out": "test",
    "testset": "test",
}

# Index k is k * 45 degrees clockwise, seen from above; the sides are the vehicle's own.
VIEWPOINTS = ("front", "front-right", "right", "back-right", "back", "back-left", "left", "front-left")
UNKNOWN_VIEWPOINT = "unknown"

# Four decimals of a probability are 0.01 %, finer than any calibration we can measure; a box needs no hundredth pixel.
_PROBABILITY_DECIMALS = 4
_BOX_DECIMALS = 2
_MILLISECOND_DECIMALS = 2
# Sums over 196 float32 softmax values miss 1 by some 1e-6; a hundred times that is a mistake, not rounding.
_ROUNDING = 1e-4


def _probability(record: object, name: str = "probability") -> None:
    value = float(getattr(record, name))
    if not -_ROUNDING <= value <= 1 + _ROUNDING:  # also false for NaN
        raise ValueError(f"{type(record).__name__} {name}={value}: it must lie in 0..1")
    object.__setattr__(record, name, min(max(value, 0.0), 1.0))


def _member(word: str, allowed: tuple[str, ...], what: str) -> None:
    if word not in allowed:
        raise ValueError(f"{what} {word!r}; allowed: {', '.join(allowed)}")


_PHOTO_ID_BYTES = 6  # 48 bits: they only distinguish the photos of one ad


def photo_id(ad_id: str, url: str) -> str:
    """Return a photo's permanent name, made of its ad and where it comes from: "4711/9f2c6b01d5aa".

    A listing that is read again with its photos in another order gives the same names.
    """
    from hashlib import blake2b  # loads OpenSSL, 7 to 24 ms, which recognizing a photo does not need

    return f"{ad_id}/{blake2b(url.encode(errors='surrogateescape'), digest_size=_PHOTO_ID_BYTES).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a photo shows, one of `KINDS`, with its probability."""

    name: str
    probability: float

    def __post_init__(self) -> None:
        _member(self.name, KINDS, "kind")
        _probability(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewpoint:
    """Which side of a vehicle is seen, one of `VIEWPOINTS` or "unknown" (probability 0 by default)."""

    name: str = UNKNOWN_VIEWPOINT
    probability: float = 0.0

    def __post_init__(self) -> None:
        _member(self.name, (*VIEWPOINTS, UNKNOWN_VIEWPOINT), "viewpoint")
        _probability(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Name a taxon by its full name down to its level ("Audi TTS Coupe"), with its probability."""

    name: str
    probability: float

    def __post_init__(self) -> None:
        _probability(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One word for what colour or body a vehicle has, with its probability; the words are the identifier's."""

    name: str
    probability: float

    def __post_init__(self) -> None:
        _probability(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The deepest taxon that is sure enough; `level` is "make", "model", "generation" or "year"."""

    level: str
    name: str
    probability: float

    def __post_init__(self) -> None:
        _probability(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One vehicle as any detector reports it: box in pixels of the array it saw, score 0..1.

    `viewpoints` are eight probabilities in the order of `VIEWPOINTS`, or None from a detector that knows no sides.
    """

    box: BoundingBox
    score: float
    viewpoints: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _probability(self, "score")
        if self.viewpoints is not None:
            if len(self.viewpoints) != len(VIEWPOINTS):
                raise ValueError(f"a detection has {len(VIEWPOINTS)} viewpoints or None, not {len(self.viewpoints)}")
            object.__setattr__(self, "viewpoints", tuple(float(value) for value in self.viewpoints))

    @property
    def viewpoint(self) -> Viewpoint:
        """Return the likeliest side, or "unknown" where the detector knows no sides."""
        if self.viewpoints is None:
            return Viewpoint()
        best = max(range(len(VIEWPOINTS)), key=self.viewpoints.__getitem__)
        return Viewpoint(name=VIEWPOINTS[best], probability=self.viewpoints[best])


@dataclass(frozen=True, slots=True, kw_only=True)
class Vehicle:
    """One recognised vehicle; the box is in pixels of the upright original photo.

    `levels` has the top candidates of each taxonomy level, best first. `answer` is None when no level is sure enough,
    and `undecided` then says why in words. `colour` and `body` are None where they are not sure enough.
    `probabilities` are those of the identifier's classes, in the order of its taxonomy, `attributes` those of each
    attribute's words; `embedding` has unit length. None of the three is written unless asked for. `evidence` says how
    much speaks for any class of a learned bundle, and `called` what the network under it would answer. `own` are
    attributes of one's own, None where one is not sure.
    """

    box: BoundingBox
    score: float
    viewpoint: Viewpoint
    answer: Answer | None
    levels: Mapping[str, tuple[Candidate, ...]]
    undecided: str | None = None
    colour: Attribute | None = None
    body: Attribute | None = None
    probabilities: tuple[float, ...] | None = None
    attributes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    own: Mapping[str, Attribute | None] = field(default_factory=dict)
    embedding: tuple[float, ...] | None = None
    evidence: float | None = None
    called: Answer | None = None

    def __post_init__(self) -> None:
        _probability(self, "score")
        if self.answer is not None and self.undecided is not None:
            raise ValueError("a vehicle has an answer or a reason why it is undecided, not both")
        object.__setattr__(self, "levels", {level: tuple(ranked) for level, ranked in self.levels.items()})
        for name in ("probabilities", "embedding"):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, tuple(map(float, values)))
        attributes = {name: tuple(map(float, values)) for name, values in self.attributes.items()}
        object.__setattr__(self, "attributes", attributes)

    @property
    def look(self) -> str:
        """Return colour and body in words, as far as they are sure enough: "red hatchback", or nothing."""
        return look(self.colour, self.body)

    def to_dict(self, *, with_embedding: bool = False) -> dict[str, Any]:
        """Return the vehicle as JSON values, numbers rounded for reading."""
        content: dict[str, Any] = {
            "box": [round(value, _BOX_DECIMALS) for value in self.box.to_list()],
            "score": round(self.score, _PROBABILITY_DECIMALS),
            "viewpoint": named(self.viewpoint),
            "colour": named(self.colour),
            "body": named(self.body),
            **({"attributes": {name: named(word) for name, word in self.own.items()}} if self.own else {}),
            "answer": None if self.answer is None else {"level": self.answer.level, **named(self.answer)},
            "levels": {level: [named(candidate) for candidate in ranked] for level, ranked in self.levels.items()},
            "undecided": self.undecided,
        }
        if with_embedding:
            content["embedding"] = None if self.embedding is None else list(self.embedding)
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Vehicle:
        """Read what `to_dict` wrote; fields it does not know are passed over, since fields may be added."""
        answer, embedding = content["answer"], content.get("embedding")
        levels = content["levels"].items()
        return cls(
            box=BoundingBox.from_list(content["box"]),
            score=content["score"],
            viewpoint=Viewpoint(**_pick(content["viewpoint"])),
            answer=None if answer is None else Answer(level=answer["level"], **_pick(answer)),
            levels={level: tuple(Candidate(**_pick(candidate)) for candidate in ranked) for level, ranked in levels},
            undecided=content["undecided"],
            colour=_attribute(content.get("colour")),
            body=_attribute(content.get("body")),
            own={name: _attribute(word) for name, word in (content.get("attributes") or {}).items()},
            embedding=None if embedding is None else tuple(embedding),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoError:
    """Why a photo has no answer: `type` for programs (an error's `code`), `message` for people."""

    type: str
    message: str

    @classmethod
    def of(cls, error: CarspotterError) -> PhotoError:
        """Make the record of an error."""
        return cls(type=error.code, message=str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How bright (mean, 0..1) and sharp (variance of the Laplacian) a photo is; see `quality.scores`."""

    brightness: float
    sharpness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """All that is said about one photo; with an `error` there is no size, no kind and no vehicle.

    `width` and `height` are of the upright original in pixels, `bundles` the names of the models by task,
    `milliseconds` the time each step took. `hashes` are the two perceptual ones, pHash and dHash, and `quality` is
    brightness and sharpness, where asked for.
    """

    photo: str
    width: int | None = None
    height: int | None = None
    kind: Kind | None = None
    vehicles: tuple[Vehicle, ...] = ()
    error: PhotoError | None = None
    bundles: Mapping[str, str] = field(default_factory=dict)
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    hashes: tuple[int, int] | None = None
    quality: Quality | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "vehicles", tuple(self.vehicles))
        if self.error is not None and (self.vehicles or self.kind is not None):
            raise ValueError(f"prediction of {self.photo!r}: a photo with an error has no kind and no vehicles")
        for name in ("width", "height"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"prediction of {self.photo!r}: {name}={value}; it must be at least 1")

    def to_dict(self, *, with_embedding: bool = False) -> dict[str, Any]:
        """Return the prediction as JSON values in the documented order; embeddings only when asked for."""
        return {
            "photo": self.photo,
            "width": self.width,
            "height": self.height,
            "kind": named(self.kind),
            "vehicles": [vehicle.to_dict(with_embedding=with_embedding) for vehicle in self.vehicles],
            "error": None if self.error is None else {"type": self.error.type, "message": self.error.message},
            "bundles": dict(self.bundles),
            "milliseconds": {
                step: round(float(value), _MILLISECOND_DECIMALS) for step, value in self.milliseconds.items()
            },
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Prediction:
        """Read what `to_dict` wrote; fields it does not know are passed over, since fields may be added."""
        kind, error = content["kind"], content["error"]
        return cls(
            photo=content["photo"],
            width=content["width"],
            height=content["height"],
            kind=None if kind is None else Kind(**_pick(kind)),
            vehicles=tuple(Vehicle.from_dict(vehicle) for vehicle in content["vehicles"]),
            error=None if error is None else PhotoError(type=error["type"], message=error["message"]),
            bundles=dict(content["bundles"]),
            milliseconds=dict(content["milliseconds"]),
        )


def look(colour: Attribute | None, body: Attribute | None) -> str:
    """Join the words of a colour and a body that are known."""
    return " ".join(word.name for word in (colour, body) if word is not None)


Named = Kind | Viewpoint | Candidate | Attribute | Answer


@overload
def named(record: Named) -> dict[str, Any]: ...
@overload
def named(record: Named | None) -> dict[str, Any] | None: ...
def named(record: Named | None) -> dict[str, Any] | None:
    """Return a name and its probability as JSON values, the probability rounded for reading; None stays None."""
    if record is None:
        return None
    return {"name": record.name, "probability": round(record.probability, _PROBABILITY_DECIMALS)}


def _attribute(content: Mapping[str, Any] | None) -> Attribute | None:
    return None if content is None else Attribute(**_pick(content))


def _pick(content: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": content["name"], "probability": content["probability"]}


def split_name(text: str | None) -> str | None:
    """Return the part of a dataset that a word names, or the word itself where it is unknown."""
    return _SPLIT_WORDS.get(text.strip().casefold(), text) if text else None
