"""Name make, model, generation and year on crops, with calibrated probabilities, or a reason why not.

A level's probability is the sum of its children's, so that levels agree with each other: of each the first candidate is
one of the children of the first above. The answer is the deepest level sure enough; below the threshold, where the
network sees no whole car, and where a learned bundle sees none of its classes, it abstains.
It decodes no photo and finds no vehicle: `recognizer` hands it crops of the size that the bundle asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from carspotter.errors import BundleError, suggestion
from carspotter.records import Answer, Candidate
from carspotter.runtime.bundle import CAR, NETWORK, SUBJECT
from carspotter.runtime.classes import class_probabilities, evidence_of, head_temperature
from carspotter.taxonomy import LEVELS, Level, Taxonomy

if TYPE_CHECKING:
    from carspotter.runtime.bundle import ModelBundle
    from carspotter.runtime.session import Session

DEFAULT_TOP = 5
"""Candidates kept per level: Stanford Cars is reported at top-5 as well."""

DEFAULT_THRESHOLD = 0.6
"""Used when a bundle's calibration names none. Of calibrated guesses at 0.6, six in ten are right."""

DEFAULT_SUBJECT = 0.5
"""Least probability of one whole car, when a bundle's calibration names no `subject`: more likely one than none."""

NO_CAR = "not decidable: this does not look like a photograph of one whole car"

UNKNOWN = "not one of yours: it looks like none of the classes that were learnt"
"""Why a vehicle in which a learned bundle sees too little of any of its classes has no answer."""


def not_yours(called: Answer | None) -> str:
    """Return why a vehicle has no answer, with what the network under the head would call it where that is sure."""
    return UNKNOWN if called is None else f"{UNKNOWN}; the network below them calls it {called.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identification:
    """What the identifier says of one crop.

    `levels` has the top candidates of each level: first the one on the way down from the likeliest make, then the
    others by probability. Exactly one of `answer` and `undecided` is set. `probabilities` (n_classes,) are
    those of the bundle's classes, `embedding` is (d,) float32 of unit length, `attributes` has for each of the bundle's
    the probabilities (k,) of its words. `evidence` says how much speaks for any class, None where the bundle does not
    tell, and `called` what the network under a learned head would answer. `said` (m,) are the probabilities of the
    network's own models.
    """

    levels: Mapping[str, tuple[Candidate, ...]]
    answer: Answer | None
    undecided: str | None
    probabilities: NDArray[np.float64]
    embedding: NDArray[np.float32]
    attributes: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    evidence: float | None = None
    called: Answer | None = None
    said: NDArray[np.float32] | None = None


class Identifier:
    """Name the vehicle on a crop at each level of the bundle's taxonomy."""

    def __init__(
        self, bundle: ModelBundle, session: Session, *, threshold: float | None = None, top: int = DEFAULT_TOP
    ) -> None:
        """Take a bundle for the task `identifier` and a session on its network.

        `threshold` (0..1) overrides what the bundle's calibration asks of an answer at all levels, the evidence for any
        class included. Raises BundleError for another task or a calibration that cannot be, ValueError for a threshold
        outside of 0..1.
        """
        taxonomy = bundle.taxonomy
        if bundle.task != "identifier" or taxonomy is None:
            raise BundleError(
                f"bundle {bundle.name}: task is {bundle.task!r}, but an identifier with a taxonomy is needed; "
                "`carspotter models` lists the bundles"
            )
        self.bundle = bundle
        self.preprocessing = bundle.preprocessing
        self.taxonomy = taxonomy
        self._session = session
        self._top = top
        self._thresholds = _thresholds(bundle, threshold)
        self._least_subject = bundle.share(SUBJECT, DEFAULT_SUBJECT)
        self._evidence = float(bundle.calibration.get("evidence", -np.inf)) if threshold is None else -np.inf
        head_temperature(bundle)  # an odd one is an error now, not at the first photo
        self._names = {level: taxonomy.names(level) for level in LEVELS}
        self._repeats = {level: taxonomy.repeats(level) for level in LEVELS}
        self._below = _network(bundle, session)
        self._ours: frozenset[str] = _ours(taxonomy, bundle.network) if bundle.network else frozenset()

    def identify(self, crops: NDArray[np.uint8]) -> list[Identification]:
        """Identify crops (n, H, W, 3) in the bundle's input size, in order."""
        if not len(crops):
            return []
        outputs = self._session.run(crops)
        probabilities = class_probabilities(self.bundle, outputs)
        embeddings = outputs["embedding"].astype(np.float32, copy=False)
        attributes = [{name: outputs[name][i] for name in self.bundle.attributes} for i in range(len(crops))]
        said = outputs["model"].astype(np.float32, copy=False)
        evidence, called = self._evidence_of(outputs), self._called(outputs)
        judged = [
            self.judge(*one, evidence=each, called=name)
            for *one, each, name in zip(probabilities, embeddings, attributes, evidence, called, strict=True)
        ]
        return [replace(one, said=names) for one, names in zip(judged, said, strict=True)]

    def probabilities(self, crops: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the calibrated probability of every class (n, n_classes) for crops (n, H, W, 3), in order."""
        return class_probabilities(self.bundle, self._session.run(crops))

    def judge(
        self,
        probabilities: NDArray[np.float64],
        embedding: NDArray[np.float32],
        attributes: Mapping[str, NDArray[np.float32]] | None = None,
        *,
        evidence: float | None = None,
        called: Answer | None = None,
    ) -> Identification:
        """Return what class probabilities (n_classes,) mean: one photo's, or those that several photos agree on.

        `attributes` are what the network says in addition; without them the subject is taken for a car. Without
        `evidence` the vehicle is taken for one of the classes; `called` is what the network under a head would answer.
        """
        attributes = attributes or {}
        # Sums over classes, so that levels agree: a make is never less likely than one of its models.
        levels = {level: self.taxonomy.sum_to(level, probabilities) for level in LEVELS}
        way = {level: int(best[0]) for level, best in self.taxonomy.descend(_rows(levels)).items()}
        refusal = self._refusal(attributes, evidence, called)
        answer = None if refusal else self._answer(levels, way)
        return Identification(
            levels={level: self._candidates(level, values, way[level]) for level, values in levels.items()},
            answer=answer,
            undecided=None if answer else refusal or self._reason(levels[LEVELS[0]]),
            probabilities=probabilities,
            embedding=embedding,
            attributes=attributes,
            evidence=evidence,
            called=called,
        )

    def _evidence_of(self, outputs: Mapping[str, NDArray[np.floating]]) -> list[float | None]:
        """Return how much speaks for any class (n,), None where nothing says it."""
        found = evidence_of(self.bundle, outputs)
        return [None] * len(outputs["embedding"]) if found is None else found.tolist()

    def _called(self, outputs: Mapping[str, NDArray[np.floating]]) -> list[Answer | None]:
        """Return what the network under the head answers (n,); None where it is not sure, or names what is ours."""
        probabilities = outputs["probabilities"].astype(np.float64)
        if self._below is None:
            return [None] * len(probabilities)
        answers = [self._below.judge(each, np.zeros(1, np.float32)).answer for each in probabilities]
        return [None if answer is None or answer.name.casefold() in self._ours else answer for answer in answers]

    def _refusal(
        self, attributes: Mapping[str, NDArray[np.float32]], evidence: float | None, called: Answer | None
    ) -> str | None:
        """Return why no class is to be named, whatever the probabilities; None where there is no such reason."""
        if SUBJECT in attributes:
            car = float(attributes[SUBJECT][self.bundle.attributes[SUBJECT].index(CAR)])
            if car < self._least_subject:
                return NO_CAR
        return not_yours(called) if evidence is not None and evidence < self._evidence else None

    def _candidates(self, level: Level, values: NDArray[np.floating], first: int) -> tuple[Candidate, ...]:
        # A stable sort keeps the taxonomy's order between equals: the same photo gives the same list on every engine.
        ranked = np.argsort(-values, kind="stable")[: self._top + 1].tolist()
        # The way down comes first, though another branch may have a likelier model: the list begins with the answer.
        best = [first, *(i for i in ranked if i != first)][: self._top]
        names = self._names[level]
        return tuple(Candidate(name=names[i], probability=float(values[i])) for i in best)

    def _answer(self, levels: Mapping[Level, NDArray[np.floating]], way: Mapping[Level, int]) -> Answer | None:
        """Return the deepest level on the way down from the likeliest make that is sure enough.

        It may lie below a level that misses its threshold: thresholds are calibrated level by level, and the make's may
        be the stricter.
        """
        # Deepest first: the first level that is sure enough says the most.
        for level in reversed(LEVELS):
            best = way[level]
            probability = float(levels[level][best])
            # A class without generation or year repeats its parent's name: that says no more.
            if probability >= self._thresholds[level] and not self._repeats[level][best]:
                return Answer(level=level, name=self._names[level][best], probability=probability)
        return None

    def _reason(self, makes: NDArray[np.floating]) -> str:
        best = int(np.argmax(makes))
        name, threshold = self._names[LEVELS[0]][best], self._thresholds[LEVELS[0]]
        told, least = f"{makes[best]:.2f}", f"{threshold:.2f}"
        if told == least:  # cut, not rounded: 0.598 must not read as "0.60 is below 0.60"
            told = f"{np.floor(makes[best] * 100) / 100:.2f}"
        return f"not decidable from this photo: best guess {name} ({told}) is below {least}"


def _network(bundle: ModelBundle, session: Session) -> Identifier | None:
    """Return an identifier for the network's own classes, where a head answers in their place and they are known."""
    if bundle.network is None:
        return None
    thresholds = bundle.calibration.get(NETWORK, {})
    own = replace(bundle, head=None, network=None, taxonomy=bundle.network, calibration={"thresholds": thresholds})
    return Identifier(own, session)


def _ours(own: Taxonomy, network: Taxonomy) -> frozenset[str]:
    """Return, casefolded, what may be a class of our own: the names of those and above them, and a network's below."""
    classes = {taxon.name().casefold() for taxon in own.classes}
    # Makes do not count: an Audi that we do not know is a stranger though we know other Audis.
    ours = {name.casefold() for level in LEVELS[1:] for name in own.names(level)}
    for taxon in network.classes:
        way = [taxon.name(level).casefold() for level in LEVELS]
        ours |= {name for place, name in enumerate(way) if not classes.isdisjoint(way[: place + 1])}
    return frozenset(ours)


def _rows(levels: Mapping[Level, NDArray[np.floating]]) -> dict[Level, NDArray[np.floating]]:
    return {level: values[np.newaxis] for level, values in levels.items()}


def _thresholds(bundle: ModelBundle, override: float | None) -> dict[Level, float]:
    if override is not None:
        if not 0 <= override <= 1:
            raise ValueError(f"threshold={override}: must be from 0 to 1")
        return dict.fromkeys(LEVELS, override)
    default = bundle.share("threshold", DEFAULT_THRESHOLD)
    by_level = bundle.calibration.get("thresholds", {})
    what = f"bundle {bundle.name}: calibration thresholds"
    if not isinstance(by_level, Mapping):
        raise BundleError(f"{what} are {by_level!r}; they must be a mapping from levels to numbers")
    for level, value in by_level.items():
        if level not in LEVELS:
            raise BundleError(f"{what} name the unknown level {level!r}; {suggestion(level, LEVELS)}")
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise BundleError(f"{what}.{level} is {value!r}; it must be from 0 to 1")
    return {level: float(by_level.get(level, default)) for level in LEVELS}
