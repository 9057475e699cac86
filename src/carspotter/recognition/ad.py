"""Answer for a whole ad from the predictions of its photos, and say what each photo has to do with it.

Copies count once, a photo of another vehicle not at all, the others together (`fusion`): one answer, one colour, one
body. What the seller declared is compared with what is seen (`declared`, `declared_attributes`); views and the leading
photo come from `ad_views`. It decodes no photo, and the probabilities and thresholds are the identifier's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from carspotter.recognition.ad_score import AdScore, score_ad
from carspotter.recognition.ad_views import VIEWS, find_copies, lead_of, missing_of, views_of
from carspotter.recognition.attributes import SHOWN, Attributes
from carspotter.recognition.candidates import why_no_vehicle
from carspotter.recognition.declared import Comparison, Declared, DeclaredWords, Evidence, compare
from carspotter.recognition.declared_attributes import SeenWords, are_near, compare_attribute
from carspotter.recognition.fusion import find_outlier_colours, find_outlier_photos, fuse, fuse_words, mean_direction
from carspotter.recognition.identifier import NO_CAR, Identification, Identifier
from carspotter.records import Answer, Attribute, Candidate, Prediction, named
from carspotter.taxonomy import LEVELS, Taxon, Taxonomy

Role = Literal["view", "other-vehicle", "interior", "detail", "other", "duplicate", "unreadable"]

_COPY = "the same picture as another photo of the ad"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdPhoto:
    """What a photo is in its ad.

    `weight` is its share of the answer, 0..1; those of all photos sum to 1 where there is something to answer from.
    `why` says why it has none. `duplicate_of` is the index of the photo whose picture it repeats.
    """

    prediction: Prediction
    role: Role
    weight: float = 0.0
    duplicate_of: int | None = None
    why: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the photo as JSON values; its prediction also says why it lists no vehicle."""
        return {
            "role": self.role,
            "duplicate_of": self.duplicate_of,
            "weight": round(self.weight, 4),
            "why": self.why,
            "prediction": {**self.prediction.to_dict(), "undecided": why_no_vehicle(self.prediction)},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AdAnswer:
    """The answer to an ad: one of `answer` and `undecided`, the candidates of each level, and its photos.

    `lead` is the index of the photo that should come first; `seen` and `missing` name viewpoints and "interior", which
    is in neither where a photo may show it. `colour` and `body` are None where the photos are not sure. `score` judges
    the photos as a set, as a buyer sees them. `probabilities` are those of the identifier's classes, None where no
    photo shows the vehicle.
    """

    answer: Answer | None
    undecided: str | None
    levels: Mapping[str, tuple[Candidate, ...]]
    photos: tuple[AdPhoto, ...]
    colour: Attribute | None = None
    body: Attribute | None = None
    lead: int | None = None
    seen: tuple[str, ...] = ()
    missing: tuple[str, ...] = VIEWS
    declared: Declared | None = None
    score: AdScore | None = None
    probabilities: tuple[float, ...] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON values, numbers rounded for reading; the class probabilities are left out."""
        return {
            "answer": None if self.answer is None else {"level": self.answer.level, **named(self.answer)},
            "undecided": self.undecided,
            "colour": named(self.colour),
            "body": named(self.body),
            "levels": {level: [named(candidate) for candidate in ranked] for level, ranked in self.levels.items()},
            "lead": self.lead,
            "views": {"seen": list(self.seen), "missing": list(self.missing)},
            "declared": None if self.declared is None else self.declared.to_dict(),
            "score": None if self.score is None else self.score.to_dict(),
            "photos": [photo.to_dict() for photo in self.photos],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Voices:
    """The photos whose vehicle was identified: indices (n), class probabilities (n, n_classes), embeddings (n, d).

    `evidence` (n) says how much speaks for any class of a learned bundle, `called` (n) what the network under it says.
    """

    indices: tuple[int, ...]
    probabilities: NDArray[np.float64]
    embeddings: NDArray[np.float64]
    evidence: tuple[float | None, ...]
    called: tuple[Answer | None, ...]

    def without(self, indices: Sequence[int]) -> _Voices:
        """Return the voices less those of some photos."""
        rows = [row for row, index in enumerate(self.indices) if index not in indices]
        return _Voices(
            indices=tuple(self.indices[row] for row in rows),
            probabilities=self.probabilities[rows],
            embeddings=self.embeddings[rows],
            evidence=tuple(self.evidence[row] for row in rows),
            called=tuple(self.called[row] for row in rows),
        )


def answer_ad(
    predictions: Sequence[Prediction],
    identifier: Identifier,
    *,
    declared: Taxon | DeclaredWords | None = None,
    attributes: Attributes | None = None,
) -> AdAnswer:
    """Answer for an ad from the predictions of its photos, and compare it with what was declared.

    The predictions come from a recognizer with `with_hashes=True` (without hashes no copy is known) and this
    identifier; `attributes` are the recognizer's, where bundles of one's own say colour or body (default: the
    identifier's). Of a photo with several vehicles the first counts. No photo at all, or none that can be read, is an
    answer that says so. Raises ValueError for identified vehicles without probabilities, as read back from JSON.
    """
    attributes = attributes or Attributes(identifier.bundle)
    # Copies first: a photo shown twice would have two votes in all that follows.
    copies = find_copies(predictions)
    voices = _voices(predictions, copies)
    # Then other cars by name, then by colour among what is left, so that a wrong car moves no colour.
    strangers = _strangers(voices, identifier)
    voices = voices.without(list(strangers))
    strangers |= (repainted := _other_colours(predictions, voices, attributes))
    voices = voices.without(list(repainted))
    # What remains are photos of one car, and one answer is made of them.
    together = _together(voices, identifier)
    photos = tuple(
        _photo(index, prediction, copies=copies, strangers=strangers, voices=voices)
        for index, prediction in enumerate(predictions)
    )
    nothing = _nothing(photos) if together is None else None
    looks = _looks(predictions, voices, attributes)
    own = {index: photo.prediction for index, photo in enumerate(photos) if photo.role not in _NOT_OWN}
    seen = {view for prediction in own.values() for view in views_of(prediction)}
    return AdAnswer(
        answer=together.answer if together else None,
        undecided=together.undecided if together else nothing,
        levels=together.levels if together else dict.fromkeys(LEVELS, ()),
        photos=photos,
        colour=looks["colour"].sure if looks["colour"] else None,
        body=looks["body"].sure if looks["body"] else None,
        lead=lead_of({index: photo for index, photo in own.items() if photos[index].role == "view"}),
        seen=tuple(view for view in VIEWS if view in seen),
        missing=missing_of(own.values()),
        declared=_declared(declared, _seen(together, voices), identifier.taxonomy, looks=looks, nothing=nothing),
        score=score_ad(predictions, copies=copies, others=_not_this_car(photos)),
        probabilities=tuple(together.probabilities.tolist()) if together else None,
    )


_NOT_THIS_CAR: tuple[Role, ...] = ("unreadable", "other-vehicle", "other")
_NOT_OWN: tuple[Role, ...] = (*_NOT_THIS_CAR, "duplicate")


def _not_this_car(photos: Sequence[AdPhoto]) -> list[int]:
    """Return the places of the photos that show another vehicle, something else, or nothing that can be read."""
    return [index for index, photo in enumerate(photos) if photo.role in _NOT_THIS_CAR]


def _voices(predictions: Sequence[Prediction], copies: Mapping[int, int]) -> _Voices:
    indices, probabilities, embeddings = [], [], []
    for index, prediction in enumerate(predictions):
        vehicle = prediction.vehicles[0] if prediction.vehicles else None
        # Without candidates a vehicle was too small or no car: it has nothing to vote with.
        if vehicle is None or index in copies or not any(vehicle.levels.values()):
            continue
        if vehicle.probabilities is None or vehicle.embedding is None:
            raise ValueError(
                f"photo {index}, {prediction.photo!r}: its vehicle has no class probabilities or no embedding; "
                "predictions read from JSON lack them, so ask the recognizer"
            )
        indices.append(index)
        probabilities.append(vehicle.probabilities)
        embeddings.append(vehicle.embedding)
    return _Voices(
        indices=tuple(indices),
        probabilities=np.array(probabilities, np.float64),
        embeddings=np.array(embeddings, np.float64),
        evidence=tuple(predictions[index].vehicles[0].evidence for index in indices),
        called=tuple(predictions[index].vehicles[0].called for index in indices),
    )


def _strangers(voices: _Voices, identifier: Identifier) -> dict[int, str]:
    """Return the photos of another vehicle, each with the reason in words."""
    reasons = {}
    for stranger in find_outlier_photos(voices.probabilities, voices.embeddings, identifier.taxonomy):
        here = _best(voices.probabilities[stranger.row], voices.embeddings[stranger.row], identifier)
        there = _best(stranger.others, voices.embeddings[stranger.row], identifier)
        reasons[voices.indices[stranger.row]] = f"another vehicle: {here} here, {there} on the other photos"
    return reasons


def _other_colours(predictions: Sequence[Prediction], voices: _Voices, attributes: Attributes) -> dict[int, str]:
    """Return the photos of a vehicle of clearly another colour than the rest, each with the reason in words."""
    words = attributes.words.get("colour", ())
    said = {index: predictions[index].vehicles[0].attributes.get("colour") for index in voices.indices}
    heard = {index: values for index, values in said.items() if values}
    if not words or not heard:
        return {}
    # Grey and silver are one paint in two lights: only colours that are not near speak against a photo.
    near = np.array([[are_near(one, other) for other in words] for one in words])
    indices = list(heard)
    reasons = {}
    for stranger in find_outlier_colours(np.array(list(heard.values()), np.float64), near):
        here = words[int(np.argmax(heard[indices[stranger.row]]))]
        there = words[int(np.argmax(stranger.others))]
        reasons[indices[stranger.row]] = f"another vehicle: {here} here, {there} on the other photos"
    return reasons


def _best(
    probabilities: NDArray[np.floating[Any]], embedding: NDArray[np.floating[Any]], identifier: Identifier
) -> str:
    found = identifier.judge(np.asarray(probabilities, np.float64), np.asarray(embedding, np.float32))
    best = found.answer or found.levels[LEVELS[0]][0]
    return f"{best.name} ({best.probability:.2f})"


def _together(voices: _Voices, identifier: Identifier) -> Identification | None:
    if not voices.indices:
        return None
    heard = [each for each in voices.evidence if each is not None]
    found = identifier.judge(
        fuse(voices.probabilities, identifier.taxonomy),
        mean_direction(voices.embeddings),
        # The mean: each photo has one voice, as in the answer, and the bar of one photo stays right for several.
        evidence=float(np.mean(heard)) if heard else None,
        called=_called(voices.called),
    )
    return replace(found, undecided=_plural(found.undecided, len(voices.indices)))


def _called(said: Sequence[Answer | None]) -> Answer | None:
    """Return what the network under a learned head calls more than half of the photos; None where it does not."""
    votes = Counter((each.level, each.name) for each in said if each is not None)
    # More than half of all photos, not of those that say something: one confident photo decides nothing.
    best, count = votes.most_common(1)[0] if votes else (None, 0)
    alike = [each for each in said if each is not None and (each.level, each.name) == best]
    return max(alike, key=lambda each: each.probability) if 2 * count > len(said) else None


def _looks(predictions: Sequence[Prediction], voices: _Voices, attributes: Attributes) -> dict[str, SeenWords | None]:
    """Pool what the photos that are used say of colour and body; None where no photo says anything."""
    looks: dict[str, SeenWords | None] = dict.fromkeys(SHOWN)
    for name, words in attributes.words.items():
        said = {index: predictions[index].vehicles[0].attributes.get(name) for index in voices.indices}
        heard = {index: values for index, values in said.items() if values}
        if heard:
            # float64: the logarithms of many small probabilities are summed.
            probabilities = np.array(list(heard.values()), np.float64)
            together = fuse_words(probabilities)
            looks[name] = SeenWords(
                words=words,
                together=together,
                indices=tuple(heard),
                probabilities=probabilities,
                sure=attributes.say(name, {name: together}),
            )
    return looks


def _seen(together: Identification | None, voices: _Voices) -> Evidence | None:
    if together is None:
        return None
    return Evidence(together=together, indices=voices.indices, probabilities=voices.probabilities)


def _declared(
    declared: Taxon | DeclaredWords | None,
    seen: Evidence | None,
    taxonomy: Taxonomy,
    *,
    looks: Mapping[str, SeenWords | None],
    nothing: str | None,
) -> Declared | None:
    if declared is None:
        return None
    found = compare(declared, seen, taxonomy, nothing=nothing or "")
    if not isinstance(declared, DeclaredWords):
        return found

    def against(name: str, word: str | None) -> Comparison | None:
        return None if word is None else compare_attribute(name, word, looks[name], nothing=nothing or "")

    return replace(found, colour=against("colour", declared.colour), body=against("body", declared.body))


def _photo(
    index: int, prediction: Prediction, *, copies: Mapping[int, int], strangers: Mapping[int, str], voices: _Voices
) -> AdPhoto:
    if prediction.error is not None:
        return AdPhoto(prediction=prediction, role="unreadable", why=prediction.error.message)
    if index in copies:
        return AdPhoto(prediction=prediction, role="duplicate", duplicate_of=copies[index], why=_COPY)
    if index in strangers:
        return AdPhoto(prediction=prediction, role="other-vehicle", why=strangers[index])
    role = role_of(prediction)
    if index in voices.indices:
        return AdPhoto(prediction=prediction, role=role, weight=1 / len(voices.indices))
    refusal = prediction.vehicles[0].undecided if prediction.vehicles else why_no_vehicle(prediction)
    return AdPhoto(prediction=prediction, role=role, why=refusal)


def role_of(prediction: Prediction) -> Role:
    """Return what a photo by itself shows; of a vehicle that is no car something other."""
    if prediction.vehicles and prediction.vehicles[0].undecided == NO_CAR:
        return "other"
    kind = prediction.kind.name if prediction.kind else "other"
    if kind == "interior":
        return "interior"
    if kind == "detail":
        return "detail"
    return "view" if kind == "exterior" and prediction.vehicles else "other"


def _nothing(photos: Sequence[AdPhoto]) -> str:
    """Return in words why there is nothing to answer from."""
    if not photos:
        return "the ad has no photo"
    if len(photos) == 1:
        return photos[0].why or "the photo shows no vehicle to identify"
    if all(photo.role == "unreadable" for photo in photos):
        return f"none of the {len(photos)} photos can be read"
    return f"none of the {len(photos)} photos shows a vehicle's outside well enough to identify it"


def _plural(undecided: str | None, count: int) -> str | None:
    """Reword the identifier's reason so that it is about all photos that were used."""
    return undecided.replace("from this photo", f"from {count} photos") if undecided and count > 1 else undecided
