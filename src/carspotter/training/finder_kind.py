"""Fit the finder's kinds to features that stand still: photos in, the last layer's weights out.

A last layer that learns along with boxes and viewpoints lags behind the features that it reads; fitted to them in the
end it uses all that they know. It changes no other weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from carspotter.training.finder_augment import place
from carspotter.training.finder_data import LabelledPhoto
from carspotter.training.finder_model import Finder

# Weight of the squared size of the weights, for features of variance 1: from 0.02 to 0.5 the choosing part's accuracy
# is the same (0.995 at its own gate).
DECAY = 0.02
STEPS, BATCH = 60, 32


def fit_kind(model: Finder, photos: Sequence[LabelledPhoto], size: tuple[int, int]) -> float:
    """Fit the layer `kind` of a trained finder to loaded photos, letterboxed to `size`; return the mean loss.

    A kind weighs as the square root of the number of its photos, so that the rare ones are heard.
    """
    features = still_features(model, photos, size)
    kinds = torch.tensor([photo.kind for photo in photos], device=features.device)
    weights = torch.bincount(kinds, minlength=model.kind.out_features).clamp(min=1).float().rsqrt()
    middle, spread = features.mean(0), features.std(0, correction=0) + 1e-6
    slope = torch.zeros_like(model.kind.weight, requires_grad=True)
    start = torch.zeros_like(model.kind.bias, requires_grad=True)
    optimizer = torch.optim.LBFGS([slope, start], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = F.linear((features - middle) / spread, slope, start)
        value = F.cross_entropy(logits, kinds, weight=weights) + DECAY * slope.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        model.kind.weight.copy_(slope / spread)
        model.kind.bias.copy_(start - (slope / spread) @ middle)
    return loss().item()


def still_features(model: Finder, photos: Sequence[LabelledPhoto], size: tuple[int, int]) -> Tensor:
    """Return what the layer `kind` reads (n, d) of loaded photos."""
    model.eval()
    device, rng = next(model.parameters()).device, np.random.default_rng(0)
    parts = []
    for first in range(0, len(photos), BATCH):
        pixels = np.stack([place(photo, size, rng).pixels for photo in photos[first : first + BATCH]])
        with torch.no_grad():
            parts.append(model.pooled(torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float()))
    return torch.cat(parts)
