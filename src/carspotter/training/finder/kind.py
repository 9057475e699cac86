"""Fit the last layer of the finder's kinds to features that stand still.

A last layer that learns along with boxes and viewpoints lags behind the features that it reads; fitted to them in the
end it uses all that they know. It changes no other weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from carspotter.training.finder.augment import UNKNOWN_KIND, Picture, Variation, place, recolor
from carspotter.training.finder.data import LabelledPhoto
from carspotter.training.finder.model import Finder

# Times that each photo is seen changed, beside as it stands.
VARIED = 4
# Weight of the squared size of the weights, for features of variance 1: from 0.3 to 3 the choosing part's accuracy is
# the same (0.981 at its own gate, 0.975 on its photos changed as in training), below it falls.
DECAY = 0.3
STEPS, BATCH = 80, 32


def fit_kind(
    model: Finder, photos: Sequence[LabelledPhoto], size: tuple[int, int], *, variation: Variation, seed: int = 0
) -> float:
    """Fit the layer `kind` of a trained finder to loaded photos, as they stand and changed; return the mean loss.

    A kind weighs as the square root of the number of its photos, so that the rare ones are heard.
    """
    # Computed once: the features no longer change, so that 80 steps cost as much as one pass.
    features, kinds = still_features(model, _pictures(photos, size, variation, np.random.default_rng(seed)))
    weights = torch.bincount(kinds, minlength=model.kind.out_features).clamp(min=1).float().rsqrt()
    # Standardised, so that one decay is fair to features of any scale; 1e-6 for one that never varies.
    middle, spread = features.mean(0), features.std(0, correction=0) + 1e-6
    # From zero: the problem is convex, so that the start does not decide the end.
    slope = torch.zeros_like(model.kind.weight, requires_grad=True)
    start = torch.zeros_like(model.kind.bias, requires_grad=True)
    # All photos at once in a convex problem: L-BFGS needs no learning rate and gives the same in each run.
    optimizer = torch.optim.LBFGS([slope, start], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = F.linear((features - middle) / spread, slope, start)
        value = F.cross_entropy(logits, kinds, weight=weights) + DECAY * slope.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        # The standardisation goes into the layer: w (x - m) / s + b = (w / s) x + (b - (w / s) m).
        model.kind.weight.copy_(slope / spread)
        model.kind.bias.copy_(start - (slope / spread) @ middle)
    return loss().item()


def _pictures(
    photos: Sequence[LabelledPhoto], size: tuple[int, int], variation: Variation, rng: np.random.Generator
) -> Iterator[Picture]:
    """Yield each photo letterboxed to `size`, and changed; one that shows too little of its vehicle is left out."""
    for photo in photos:
        yield place(photo, size, rng)
        for _ in range(VARIED):
            picture = place(photo, size, rng, variation)
            picture.pixels = recolor(picture.pixels, rng, variation)
            # Zoomed in too far, an exterior is a detail, but nobody labelled it so.
            if picture.kind != UNKNOWN_KIND:
                yield picture


def still_features(model: Finder, pictures: Iterator[Picture]) -> tuple[Tensor, Tensor]:
    """Return what the layer `kind` reads of pictures (n, d), and their kinds (n,)."""
    model.eval()
    device = next(model.parameters()).device
    parts, kinds = [], []
    for part in _batches(pictures):
        pixels = torch.from_numpy(np.stack([picture.pixels for picture in part])).to(device)
        with torch.no_grad():
            # Without dropout and gradients: these are the features that the exported layer will read.
            parts.append(model.pooled(pixels.permute(0, 3, 1, 2).float()))
        kinds += [picture.kind for picture in part]
    return torch.cat(parts), torch.tensor(kinds, device=device)


def _batches(pictures: Iterator[Picture]) -> Iterator[list[Picture]]:
    while part := list(islice(pictures, BATCH)):
        yield part
