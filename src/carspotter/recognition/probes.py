"""Fit a linear head on embeddings: logistic regression, or one prototype a class. Numpy alone.

Both are fitted on embeddings moved by their mean and scaled, which the head takes back, so that it works on embeddings
as they are. What is fitted is not calibrated; `gallery` chooses and calibrates.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from carspotter.runtime.calibration import softmax
from carspotter.runtime.head import Head

Floats = NDArray[np.float32]
Classes = NDArray[np.int64]

# L-BFGS keeps this many steps; 10 is its usual size (Nocedal and Wright 2006, 7.2).
_MEMORY = 10
# Held-out accuracy no longer moves once no part of the slope is larger: of 1e-3 and 1e-4 the same, of 1e-2 not.
_SLOPE = 1e-3
_MOST_STEPS = 200
# Armijo's usual share, and halvings after which a step is lost in float32's rounding.
_ENOUGH, _HALVINGS = 1e-4, 20
# Of cosines (-1..1): beyond 100 only the best class has any probability.
_SCALES = np.exp(np.arange(np.log(1.0), np.log(100.0), 0.1))


def fit_probe(
    embeddings: Floats, classes: Classes, n_classes: int, *, strength: float, start: Head | None = None
) -> Head:
    """Fit multinomial logistic regression by L-BFGS from embeddings (n, d) and classes (n,).

    It minimises the mean cross-entropy plus `strength` / 2 times the squared weights, the embeddings being scaled to a
    mean squared length of d; the bias is free. `start` is a head to begin at, of other data or another strength.
    """
    x, mean, scale = _standardized(embeddings)
    weights = np.zeros((n_classes, x.shape[1] + 1), np.float32)
    if start is not None:
        # The head works on embeddings as they are; here they are moved by their mean and scaled, so it is too.
        weights[:, :-1] = start.weights / scale
        weights[:, -1] = start.bias + start.weights @ mean
    weights = _minimize(weights, x, classes, strength)
    # w (x - mean) scale + b  =  (w scale) x + (b - w scale mean).
    unscaled = weights[:, :-1] * scale
    return Head(weights=unscaled, bias=np.asarray(weights[:, -1] - unscaled @ mean, np.float32))


def fit_prototypes(embeddings: Floats, classes: Classes, n_classes: int) -> Head:
    """Make the mean direction of each class its prototype; logits are cosines times a scale and the photo's own length.

    The scale makes the truth likeliest, each photo judged by prototypes that its own embedding is taken out of. A class
    without a photo gets zeros.
    """
    mean = embeddings.mean(axis=0)
    # Embeddings share a large mean; without it all cosines would be near one.
    x = _unit(embeddings - mean)
    sums = np.zeros((n_classes, x.shape[1]), np.float32)
    np.add.at(sums, classes, x)
    prototypes = _unit(sums)
    cosines = x @ prototypes.T
    rows = np.arange(len(x))
    # Its own part in its class's mean would make every photo look surer than a new one is.
    cosines[rows, classes] = (x * _unit(sums[classes] - x)).sum(axis=1)
    others = np.bincount(classes, minlength=n_classes)[classes] > 1
    scale = _scale(cosines[others], classes[others]) if others.any() else float(_SCALES[len(_SCALES) // 2])
    # A photo's distance from the mean is one factor for all classes: it changes no order, so the typical one will do.
    weights = prototypes * np.float32(scale / np.linalg.norm(embeddings - mean, axis=1).mean().clip(1e-6))
    return Head(weights=weights, bias=-(weights @ mean))


def _scale(cosines: Floats, classes: Classes) -> float:
    rows = np.arange(len(classes))
    losses = [-np.log(softmax(cosines * scale)[rows, classes] + 1e-12).mean() for scale in _SCALES]
    return float(_SCALES[int(np.argmin(losses))])


def _standardized(embeddings: Floats) -> tuple[Floats, Floats, np.float32]:
    mean = embeddings.mean(axis=0)
    x = embeddings - mean
    scale = np.float32(1 / max(float(np.sqrt((x * x).mean())), 1e-6))
    return x * scale, mean, scale


def _unit(vectors: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def _minimize(weights: Floats, x: Floats, classes: Classes, strength: float) -> Floats:
    """Walk down by L-BFGS with halved steps; weights are (n_classes, d + 1), the last column the bias."""
    value, slope = _loss(weights, x, classes, strength)
    past: deque[tuple[Floats, Floats, float]] = deque(maxlen=_MEMORY)
    for _ in range(_MOST_STEPS):
        if float(np.abs(slope).max()) < _SLOPE * min(1.0, strength):
            break
        direction = _direction(slope, past)
        # How fast the loss falls along the direction, for Armijo's rule below.
        fall = float(np.vdot(direction, slope))
        # The first direction is the bare slope, whose length says nothing: it is cut to length one.
        step = 1.0 if past else min(1.0, 1.0 / float(np.abs(slope).sum()))
        for _ in range(_HALVINGS):
            trial = weights + np.float32(step) * direction
            trial_value, trial_slope = _loss(trial, x, classes, strength)
            if trial_value <= value + _ENOUGH * step * fall:
                break
            step /= 2
        else:
            break
        # What the slope did over the step is what L-BFGS knows of the curvature.
        moved, turned = trial - weights, trial_slope - slope
        curvature = float(np.vdot(moved, turned))
        # Rounding can make it negative, and the next direction would then lead uphill.
        if curvature > 0:
            past.append((moved, turned, 1 / curvature))
        is_flat = value - trial_value < 1e-6 * max(1.0, value)  # float32's rounding
        weights, value, slope = trial, trial_value, trial_slope
        if is_flat:
            break
    return weights


def _loss(weights: Floats, x: Floats, classes: Classes, strength: float) -> tuple[float, Floats]:
    logits = x @ weights[:, :-1].T + weights[:, -1]
    # exp of large logits would overflow; the loss does not change.
    logits -= logits.max(axis=1, keepdims=True)
    rows = np.arange(len(classes))
    chosen = logits[rows, classes].copy()
    np.exp(logits, out=logits)
    sums = logits.sum(axis=1)
    value = float((np.log(sums) - chosen).mean()) + strength / 2 * float((weights[:, :-1] ** 2).sum())
    logits /= sums[:, None]
    # The slope of the cross-entropy by the logits is probabilities minus truth.
    logits[rows, classes] -= 1
    logits /= np.float32(len(classes))
    slope = np.empty_like(weights)
    slope[:, :-1] = logits.T @ x + np.float32(strength) * weights[:, :-1]
    slope[:, -1] = logits.sum(axis=0)
    return value, slope


def _direction(slope: Floats, past: deque[tuple[Floats, Floats, float]]) -> Floats:
    """Return the step of L-BFGS by its two loops (Nocedal and Wright 2006, algorithm 7.4)."""
    # From the newest step to the oldest: take out of the slope what each past step already explains of it.
    q = -slope
    shares = []
    for moved, turned, inverse in reversed(past):
        share = inverse * float(np.vdot(moved, q))
        shares.append(share)
        q = q - np.float32(share) * turned
    # The newest step's curvature scales the whole, so that the first length tried is nearly always right.
    if past:
        moved, turned, inverse = past[-1]
        q = q * np.float32(1 / (inverse * float(np.vdot(turned, turned))))
    # Back from the oldest: add each step as the curvature along it asks.
    for (moved, turned, inverse), share in zip(past, reversed(shares), strict=True):
        q = q + np.float32(share - inverse * float(np.vdot(turned, q))) * moved
    return q
