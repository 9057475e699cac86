"""Learn a project's own classes on an identifier's embeddings: in seconds, without a training.

A linear head is fitted on the identifier's embeddings, chosen and calibrated on photos that it did not learn from. It
decodes no photo and finds no vehicle; `gallery_bundle` writes the head beside a copy of the identifier's network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from carspotter.errors import BundleError
from carspotter.recognition.probes import Classes, Floats, fit_probe, fit_prototypes
from carspotter.recognition.unknown import FOLDS, Fit, Seen, profiles, refuse, refuse_blindly
from carspotter.runtime.calibration import PRECISION, SURE_Z, calibrate, softmax
from carspotter.runtime.head import Head
from carspotter.runtime.intervals import wilson
from carspotter.runtime.refusal import Refusal
from carspotter.taxonomy import Taxonomy

Method = Literal["auto", "probe", "prototypes"]
LearnedBy = Literal["probe", "prototypes"]

STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""Strengths of the L2 penalty to choose from, strongest first: each fit begins where the stronger one ended."""

# Without validation photos each fifth part is judged by a head fitted on the others; of many photos one part will do.
_PARTS = FOLDS
_MANY = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnSettings:
    """How `learn` fits classes."""

    method: Method = "auto"
    """Logistic regression (probe), the mean direction of each class (prototypes), or the fitting one of both (auto)."""
    strength: float = 0.0
    """L2 penalty of the probe; 0: it is chosen on photos that are not learnt from."""
    name: str = "learned"
    """Name of the learned bundle, and of its folder in `models/`."""
    seed: int = 0
    """Of the folds on which strength and thresholds are chosen."""

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"method is {self.method!r}; allowed: {', '.join(get_args(Method))}")
        if not 0 <= self.strength < np.inf:
            raise ValueError(f"strength is {self.strength}; it must be over 0, or 0 to have it chosen")
        if not self.name.strip() or {"/", "\\"} & set(self.name) or self.name.startswith("."):
            raise ValueError(f"name is {self.name!r}; it names a folder, so it must be a word without slashes")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """Calibrated probabilities (n, n_classes) of photos that were held out, and their classes (n,)."""

    probabilities: NDArray[np.float64]
    truth: Classes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gallery:
    """What was learned: a head for the classes of `taxonomy`, its calibration, and answers on photos not learnt.

    `method` is `network` where a training made the head; `strength` is the probe's, 0 for others. `held` are the photos
    that were held out, for `evaluation` to count, and `judged_on` says in words where they come from. `refusal` is the
    bar for strangers, None where there is none.
    """

    method: LearnedBy | Literal["network"]
    head: Head
    taxonomy: Taxonomy
    calibration: Mapping[str, Any]
    held: Held | None
    refusal: Refusal | None
    strength: float
    photos: int
    judged_on: str

    def probabilities(self, embeddings: ArrayLike) -> NDArray[np.float64]:
        """Return calibrated probabilities (n, n_classes) of embeddings (n, d)."""
        logits = self.head.logits(np.asarray(embeddings, np.float32)).astype(np.float64)
        return softmax(logits / self.calibration["temperature"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """One way to fit, judged on photos that were held out."""

    method: LearnedBy
    strength: float
    logits: NDArray[np.float64]
    accuracy: float
    loss: float


def learn(
    embeddings: ArrayLike,
    classes: ArrayLike,
    taxonomy: Taxonomy,
    *,
    said: ArrayLike | None = None,
    settings: LearnSettings | None = None,
    validation: tuple[ArrayLike, ...] | None = None,
    groups: Sequence[Any] | None = None,
) -> Gallery:
    """Fit a head on embeddings (n, d) and their classes (n,), indices into the taxonomy's; calibrate it.

    `said` (n, m) are the probabilities of the network's own models (its output `model`), by which strangers are known
    best. `validation` are embeddings, classes and, with `said`, the same of them to choose and calibrate by, never
    learnt from. Without it each part of the photos is judged by a head of the other parts; `groups` (n,), such as their
    ads, are never torn apart then. Raises BundleError for arrays that do not fit together, and for a single class
    without `said`: nothing could be refused.
    """
    settings = settings or LearnSettings()
    seen, y = _checked(embeddings, classes, said, taxonomy=taxonomy, what="photos to learn from")
    if len(np.unique(y)) < 2 and said is None:
        raise BundleError(
            f"{len(y)} photos of {len(np.unique(y))} classes; at least two classes need photos to learn, or `said`"
        )
    held = _held(validation, said is not None, taxonomy)
    # Validation photos, where given, judge alone; else the photos judge each other in turn.
    parts = None if held is not None else _parts(y, groups, settings.seed)
    if parts is not None and not _tested(parts).any():
        return _unjudged(seen, y, taxonomy, settings)
    trials = _judged(_way(settings), seen, y, taxonomy, held=held, parts=parts)
    truth = held[1] if held is not None else y[_tested(parts)]
    # Few photos give many equal accuracies; the loss then says which head is surer of what is right.
    best = max(trials, key=lambda trial: (trial.accuracy, -trial.loss))
    fit = _fit(best.method, best.strength)
    # Calibrated on the logits of heads that had not seen these photos, as the product's will not have.
    calibration = _calibrated(best.logits, truth, taxonomy)
    # All parts of few photos, one part of many: leaving classes out means a fit each time.
    most = None if len(y) < _MANY else 1
    refusal = refuse(fit, seen, y, held=held, parts=parts, most=most, seed=settings.seed)
    judged = f"{len(truth)} validation photos" if held is not None else f"{len(truth)} photos, held out in turn"
    return Gallery(
        method=best.method,
        # Fitted once more on all photos: those held out are too many to leave unused, and the choice is made.
        head=_rounded(fit(seen, y, np.arange(len(taxonomy)))),
        taxonomy=taxonomy,
        calibration={**calibration, **_bar(refusal)},
        held=Held(probabilities=softmax(best.logits / calibration["temperature"]), truth=truth),
        refusal=refusal,
        strength=best.strength,
        photos=len(y),
        judged_on=judged,
    )


def adopt(
    head: Head,
    embeddings: ArrayLike,
    classes: ArrayLike,
    taxonomy: Taxonomy,
    *,
    said: ArrayLike | None = None,
    photos: int,
    seed: int = 0,
) -> Gallery:
    """Calibrate a head that a training made, and choose its bar for strangers, on photos that it did not learn from.

    `embeddings` (n, d) and `classes` (n,) are of these, `said` (n, m) goes with a head that has profiles; `photos` is
    how many the head learnt from. For the bar each fifth of the classes is taken out of the head in turn: the network
    has seen them, so that true strangers look somewhat more like a class than these. Raises BundleError as `learn`.
    """
    seen, y = _checked(embeddings, classes, said, taxonomy=taxonomy, what="validation")

    def rows_of(_seen: Seen, _y: Classes, rows: Classes) -> Head:
        shown = None if head.profiles is None else head.profiles[rows]
        return Head(weights=head.weights[rows], bias=head.bias[rows], profiles=shown)

    logits = head.logits(seen.embeddings).astype(np.float64)
    calibration = _calibrated(logits, y, taxonomy)
    refusal = refuse(rows_of, seen, y, held=(seen, y), seed=seed)
    return Gallery(
        method="network",
        head=_rounded(head),
        taxonomy=taxonomy,
        calibration={**calibration, **_bar(refusal)},
        held=Held(probabilities=softmax(logits / calibration["temperature"]), truth=y),
        refusal=refusal,
        strength=0.0,
        photos=photos,
        judged_on=f"{len(y)} validation photos",
    )


# ---- choosing


_Way = tuple[LearnedBy, tuple[float, ...]]
_Held = tuple[Seen, Classes]


def _way(settings: LearnSettings) -> _Way:
    if settings.method == "prototypes":
        return "prototypes", (0.0,)
    return "probe", (settings.strength,) if settings.strength else STRENGTHS


def _held(validation: tuple[ArrayLike, ...] | None, with_said: bool, taxonomy: Taxonomy) -> _Held | None:
    if validation is None or not len(np.asarray(validation[1])):
        return None
    if len(validation) != 2 + with_said:
        raise BundleError(f"validation has {len(validation)} arrays; it needs `said` where the photos to learn have it")
    x, y, *said = validation
    return _checked(x, y, said[0] if said else None, taxonomy=taxonomy, what="validation")


def _judged(
    way: _Way, seen: Seen, y: Classes, taxonomy: Taxonomy, *, held: _Held | None, parts: Classes | None
) -> list[_Trial]:
    """Fit with each strength and judge each fit by what it did not learn from."""
    method, strengths = way
    x = seen.embeddings
    truth = held[1] if held is not None else y[_tested(parts)]
    logits = np.zeros((len(strengths), len(truth), len(taxonomy)), np.float64)
    for learnt, tested, judged in _rounds(x, held, parts):
        start: Head | None = None
        for number, strength in enumerate(strengths):
            # Each weaker penalty starts at the stronger one's optimum, which is near: a fraction of the steps.
            start = _head(method, x[learnt], y[learnt], n_classes=len(taxonomy), strength=strength, start=start)
            logits[number, judged] = start.logits(tested)
    return [_trial(method, strength, logits[number], truth) for number, strength in enumerate(strengths)]


def _rounds(
    x: Floats, held: _Held | None, parts: Classes | None
) -> list[tuple[NDArray[np.bool_], Floats, NDArray[np.bool_]]]:
    """Return rows to learn from, embeddings to judge, and which rows of the judged these are."""
    if held is not None or parts is None:
        assert held is not None
        return [(np.ones(len(x), bool), held[0].embeddings, np.ones(len(held[1]), bool))]
    tested = _tested(parts)
    # -1 differs from each part, so that a class's only group is always learnt from.
    return [(parts != part, x[parts == part], parts[tested] == part) for part in np.unique(parts[tested]).tolist()]


def _tested(parts: Classes | None) -> NDArray[np.bool_]:
    assert parts is not None
    # A fifth of 4000 photos is 800, on which 95 % right is known to 1.5 points; five fits would only cost time.
    return (parts >= 0) if len(parts) < _MANY else (parts == 0)


def _unjudged(seen: Seen, y: Classes, taxonomy: Taxonomy, settings: LearnSettings) -> Gallery:
    """Fit without holding anything out, where no class has a second photo: nothing is known of how good it is.

    Without thresholds the identifier takes its own default. How the unknown looks is known: each class is to others.
    """
    method: LearnedBy = "probe" if settings.method == "probe" else "prototypes"
    # With one photo a class nothing shows how much to trust it: the strongest penalty keeps the weights small.
    strength = (settings.strength or STRENGTHS[0]) if method == "probe" else 0.0
    fit = _fit(method, strength)
    refusal = refuse_blindly(fit, seen, y, seed=settings.seed)
    return Gallery(
        method=method,
        head=_rounded(fit(seen, y, np.arange(len(taxonomy)))),
        taxonomy=taxonomy,
        calibration={"temperature": 1.0, **_bar(refusal)},
        held=None,
        refusal=refusal,
        strength=strength,
        photos=len(y),
        judged_on="no photo: no class has a second one to hold out",
    )


def _calibrated(logits: NDArray[np.float64], truth: Classes, taxonomy: Taxonomy) -> dict[str, Any]:
    calibration, _ = calibrate(logits, truth, taxonomy)
    if wilson(len(truth), len(truth), SURE_Z)[0] < PRECISION:
        # So few photos promise nothing even if all are right: silence would say less than one photo of each does.
        del calibration["thresholds"]
    return dict(calibration)


def _bar(refusal: Refusal | None) -> dict[str, float]:
    return {} if refusal is None else {"evidence": round(refusal.least, 4)}


def _fit(method: LearnedBy, strength: float) -> Fit:
    def fit(seen: Seen, y: Classes, rows: Classes) -> Head:
        head = _head(method, seen.embeddings, y, n_classes=len(rows), strength=strength, start=None)
        return head if seen.said is None else replace(head, profiles=profiles(seen.said, y, len(rows)))

    return fit


def _trial(method: LearnedBy, strength: float, logits: NDArray[np.float64], truth: Classes) -> _Trial:
    # At temperature 1: trials are compared before any is calibrated, all alike.
    likelihood = softmax(logits)[np.arange(len(truth)), truth]
    return _Trial(
        method=method,
        strength=strength,
        logits=logits,
        accuracy=float((logits.argmax(axis=1) == truth).mean()),
        loss=float(-np.log(likelihood + 1e-12).mean()),
    )


def _head(method: LearnedBy, x: Floats, y: Classes, *, n_classes: int, strength: float, start: Head | None) -> Head:
    if method == "prototypes":
        return fit_prototypes(x, y, n_classes)
    return fit_probe(x, y, n_classes, strength=strength, start=start)


def _rounded(head: Head) -> Head:
    """Return the head as its file will hold it, so that what is answered now is what the bundle answers."""
    seen = None if head.profiles is None else head.profiles.astype(np.float16).astype(np.float32)
    return Head(weights=head.weights.astype(np.float16).astype(np.float32), bias=head.bias, profiles=seen)


def _parts(y: Classes, groups: Sequence[Any] | None, seed: int) -> Classes:
    """Deal groups of photos out to `_PARTS` parts, class by class; -1 always learns: a class's only group."""
    names = np.arange(len(y)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(names) != len(y):
        raise BundleError(f"{len(names)} groups for {len(y)} photos; each photo needs one")
    # Groups, not photos, are shuffled: photos of one ad must not be learnt and judged at once.
    order = np.random.default_rng(seed).permutation(int(names.max()) + 1)
    part = np.full(len(order), -1, np.int64)
    dealt = 0  # each class begins where the one before ended, so that no part takes the only other photo of all
    for each in np.unique(y).tolist():
        members = np.unique(names[y == each])
        # In the shuffled order within the class, not in that of the names.
        members = members[np.argsort(order[members])]
        if len(members) > 1:
            # A group that an earlier class dealt out stays where it is: it has photos of both classes.
            part[members] = np.where(part[members] < 0, (dealt + np.arange(len(members))) % _PARTS, part[members])
            dealt += len(members)
    return part[names]


def _checked(
    embeddings: ArrayLike, classes: ArrayLike, said: ArrayLike | None, *, taxonomy: Taxonomy, what: str
) -> tuple[Seen, Classes]:
    # float32, as embeddings are stored: float64 would double the memory of a large project.
    x, y = np.asarray(embeddings, np.float32), np.asarray(classes)
    if x.ndim != 2 or y.shape != x.shape[:1] or 0 in x.shape or not np.issubdtype(y.dtype, np.integer):
        raise BundleError(
            f"{what}: embeddings of {x.shape} and classes of {y.shape} {y.dtype}; they must be (n, d) and n numbers"
        )
    # Index -1 would pick the last class without an error.
    if y.min() < 0 or y.max() >= len(taxonomy):
        raise BundleError(f"{what}: classes from {y.min()} to {y.max()}; the taxonomy has 0 to {len(taxonomy) - 1}")
    if not np.isfinite(x).all():
        raise BundleError(f"{what}: an embedding is not finite; embed the photos again")
    names = None if said is None else np.asarray(said, np.float32)
    if names is not None and (names.ndim != 2 or len(names) != len(x) or not np.isfinite(names).all()):
        raise BundleError(f"{what}: {len(x)} embeddings, but `said` of {names.shape}; it must be (n, m) and finite")
    return Seen(embeddings=x, said=names), y.astype(np.int64)
