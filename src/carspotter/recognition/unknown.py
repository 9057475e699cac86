"""Ask heads of photos whose classes they did not learn: how a stranger looks to a learned bundle.

In: what a network said of photos, their classes, and a way to fit a head. Out: the evidence (`Head.evidence`) of known
and unknown photos, and the bar between them. The unknown are classes that were left out of a fit, a part of the classes
in turn. Which bar follows from both is `runtime.refusal`'s; here is what holds where a side has no photo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carspotter.recognition.probes import Classes, Floats
from carspotter.runtime.head import Head
from carspotter.runtime.refusal import KEPT, Apart, Evidence, Refusal, choose_refusal

REFUSED = 0.8
"""Share of the others that is refused where no second photo shows how many of the learnt classes that costs."""
LEAST = -1.0
"""The bar where no second photo shows what the known reach, unless classes left out ask for more: about a third of what
the network says must be as it was of a class. It kept 0.97 of the learnt of one, two, five and ten models, and refused
0.95 of the others."""
FOLDS = 5
# Of classes with one photo each, few are left out at a time: a fifth less of them is felt.
_SINGLE_FOLDS = 40
_NONE: NDArray[np.float64] = np.zeros(0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What the network saw on photos: embeddings (n, d), and of its own models the probabilities (n, m), if known."""

    embeddings: Floats
    said: Floats | None = None

    def take(self, rows: NDArray[np.bool_]) -> Seen:
        """Keep some photos."""
        return Seen(embeddings=self.embeddings[rows], said=None if self.said is None else self.said[rows])

    def evidence(self, head: Head) -> Evidence:
        """Return how much speaks for any class of a head, (n,)."""
        return head.evidence(self.embeddings, self.said)


Fit = Callable[[Seen, Classes, Classes], Head]
"""Takes photos (n), the rows (n,) that they are to have in the head, and the class (k,) that each row is."""


def profiles(said: Floats, classes: Classes, n_classes: int) -> Floats:
    """Return what the network says of each class (n_classes, m): the square roots of mean probabilities (n, m)."""
    sums = np.zeros((n_classes, said.shape[1]), np.float32)
    np.add.at(sums, classes, said)
    counts = np.bincount(classes, minlength=n_classes)[:, None]
    return np.asarray(np.sqrt(sums / np.maximum(counts, 1)), np.float32)


def left_out(
    fit: Fit,
    seen: Seen,
    y: Classes,
    *,
    held: tuple[Seen, Classes] | None = None,
    parts: Classes | None = None,
    folds: int = FOLDS,
    most: int | None = None,
    seed: int = 0,
) -> list[Apart]:
    """Return the evidence of photos of learnt classes and of classes that were left out, for each fold of the classes.

    `seen` (n) and `y` (n,) are learnt from, except the classes of a fold. Of learnt classes the photos of `held` are
    asked, or those of the fold's part in `parts` (n,), which is not learnt from then. At most `most` folds are
    done. There is no fold where fewer than three classes have photos.
    """
    found = np.unique(y)
    # Each class is left out in one fold, so that every class is once a stranger.
    fold_of = np.random.default_rng(seed).permutation(len(found)) % min(folds, len(found))
    apart = []
    for fold in range(int(fold_of.max()) + 1)[:most]:
        is_out = np.isin(y, found[fold_of == fold])
        tested = np.zeros(len(y), bool) if parts is None else parts == fold
        learnt = ~is_out & ~tested
        classes = np.unique(y[learnt])
        if len(classes) < 2:
            continue
        head = fit(seen.take(learnt), np.searchsorted(classes, y[learnt]).astype(np.int64), classes)
        asked, shown = (seen.take(tested), y[tested]) if held is None else held
        apart.append((asked.take(np.isin(shown, classes)).evidence(head), seen.take(is_out).evidence(head)))
    return apart


def held_out(
    fit: Fit, seen: Seen, y: Classes, *, held: tuple[Seen, Classes] | None = None, parts: Classes | None = None
) -> Evidence:
    """Return the evidence of photos of learnt classes alone, each by a head that did not learn it.

    Photos are those of `held`, or each part of `parts` (n,) in turn, -1 aside; classes are all that `y` (n,) has.
    """
    rows = np.arange(int(y.max()) + 1)
    if held is not None:
        return held[0].evidence(fit(seen, y, rows))
    assert parts is not None
    each = [seen.take(parts == p).evidence(fit(seen.take(parts != p), y[parts != p], rows)) for p in range(FOLDS)]
    return np.concatenate(each)


def refuse(
    fit: Fit,
    seen: Seen,
    y: Classes,
    *,
    held: tuple[Seen, Classes] | None = None,
    parts: Classes | None = None,
    most: int | None = None,
    seed: int = 0,
) -> Refusal | None:
    """Return the bar below which a vehicle is of no learnt class; None where nothing tells.

    The arguments are those of `left_out`.
    """
    found = choose_refusal(left_out(fit, seen, y, held=held, parts=parts, most=most, seed=seed))
    if found is not None or seen.said is None:
        return found
    # Of one class or two none can be left out; what the network says still tells, as from one photo each.
    known = held_out(fit, seen, y, held=held, parts=parts)
    return Refusal(least=min(LEAST, float(np.quantile(known, 1 - KEPT))), known=known, unknown=_NONE)


def refuse_blindly(fit: Fit, seen: Seen, y: Classes, *, seed: int = 0) -> Refusal | None:
    """Return the bar where no class has a second photo, so that its cost to the known cannot be seen; None as above."""
    apart = left_out(fit, seen, y, folds=_SINGLE_FOLDS, seed=seed)
    unknown = np.concatenate([each for _, each in apart]) if apart else _NONE
    least = -np.inf if seen.said is None else LEAST
    if len(unknown):
        least = max(least, float(np.quantile(unknown, REFUSED)))
    return Refusal(least=least, known=_NONE, unknown=unknown) if np.isfinite(least) else None
