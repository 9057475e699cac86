"""Learn a project's own classes on an identifier's embeddings: in seconds, without a training.

A linear head is fitted on the identifier's embeddings, chosen and calibrated on photos that it did not learn from. It
decodes no photo and finds no vehicle; `gallery_bundle` writes the head beside a copy of the identifier's network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from carspotter.errors import BundleError
from carspotter.recognition.probes import Classes
from carspotter.recognition.trials import (
    MANY,
    STRENGTHS,
    HeldOut,
    LearnedBy,
    Way,
    deal_parts,
    fitter,
    tested_rows,
    tried,
)
from carspotter.recognition.unknown import Seen, refuse, refuse_blindly
from carspotter.runtime.calibration import PRECISION, SURE_Z, calibrate, softmax
from carspotter.runtime.head import Head
from carspotter.runtime.intervals import wilson
from carspotter.runtime.refusal import Refusal
from carspotter.taxonomy import Taxonomy

Method = Literal["auto", "probe", "prototypes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnSettings:
    """How `learn` fits classes."""

    method: Method = "auto"
    """Logistic regression (probe), the mean direction of each class (prototypes), or the fitting one of both (auto)."""
    strength: float = 0.0
    """L2 penalty of the probe; 0: it is chosen on photos that are not learnt from."""
    name: str = "learned"
    """Name of the learned bundle, and of its folder in `models/`; not `trained`, which `carspotter train` writes."""
    seed: int = 0
    """Of the folds on which strength and thresholds are chosen."""

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"method is {self.method!r}; allowed: {', '.join(get_args(Method))}")
        if not 0 <= self.strength < np.inf:
            raise ValueError(f"strength is {self.strength}; it must be over 0, or 0 to have it chosen")
        if not self.name.strip() or {"/", "\\"} & set(self.name) or self.name.startswith("."):
            raise ValueError(f"name is {self.name!r}; it names a folder, so it must be a word without slashes")
        if self.name.casefold() == "trained":  # some disks do not tell upper from lower case
            raise ValueError(f"name is {self.name!r}, the bundle that `carspotter train` writes; give another name")


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
    parts = None if held is not None else deal_parts(y, groups, settings.seed)
    if parts is not None and not tested_rows(parts).any():
        return _unjudged(seen, y, taxonomy, settings)
    trials = tried(_way(settings), seen, y, taxonomy, held=held, parts=parts)
    truth = held[1] if held is not None else y[tested_rows(parts)]
    # Few photos give many equal accuracies; the loss then says which head is surer of what is right.
    best = max(trials, key=lambda trial: (trial.accuracy, -trial.loss))
    fit = fitter(best.method, best.strength)
    # Calibrated on the logits of heads that had not seen these photos, as the product's will not have.
    calibration = _calibrated(best.logits, truth, taxonomy)
    # All parts of few photos, one part of many: leaving classes out means a fit each time.
    most = None if len(y) < MANY else 1
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


def _way(settings: LearnSettings) -> Way:
    if settings.method == "prototypes":
        return "prototypes", (0.0,)
    return "probe", (settings.strength,) if settings.strength else STRENGTHS


def _held(validation: tuple[ArrayLike, ...] | None, with_said: bool, taxonomy: Taxonomy) -> HeldOut | None:
    if validation is None or not len(np.asarray(validation[1])):
        return None
    if len(validation) != 2 + with_said:
        raise BundleError(f"validation has {len(validation)} arrays; it needs `said` where the photos to learn have it")
    x, y, *said = validation
    return _checked(x, y, said[0] if said else None, taxonomy=taxonomy, what="validation")


def _unjudged(seen: Seen, y: Classes, taxonomy: Taxonomy, settings: LearnSettings) -> Gallery:
    """Fit without holding anything out, where no class has a second photo: nothing is known of how good it is.

    Without thresholds the identifier takes its own default. How the unknown looks is known: each class is to others.
    """
    method: LearnedBy = "probe" if settings.method == "probe" else "prototypes"
    # With one photo a class nothing shows how much to trust it: the strongest penalty keeps the weights small.
    strength = (settings.strength or STRENGTHS[0]) if method == "probe" else 0.0
    fit = fitter(method, strength)
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


def _rounded(head: Head) -> Head:
    """Return the head as its file will hold it, so that what is answered now is what the bundle answers."""
    seen = None if head.profiles is None else head.profiles.astype(np.float16).astype(np.float32)
    return Head(weights=head.weights.astype(np.float16).astype(np.float32), bias=head.bias, profiles=seen)


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
