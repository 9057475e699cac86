"""Choose one word for a vehicle's colour and one for its body, where the identifier is sure enough.

The words and their thresholds are the bundle's, or those of a bundle of one's own for that attribute. What no bundle
knows is left unsaid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from carspotter.records import Attribute

if TYPE_CHECKING:
    from carspotter.runtime.bundle import ModelBundle

SHOWN = ("colour", "body")
"""The attributes that are shown to people; a bundle may have others for its own use."""

DEFAULT_THRESHOLD = 0.5
"""Used where a bundle's calibration names none: a word that is less likely than all others together is not said."""

Probabilities = Mapping[str, Sequence[float] | NDArray[np.floating]]


class Attributes:
    """The words of colour and body, and how sure each must be."""

    def __init__(self, bundle: ModelBundle, own: Iterable[ModelBundle] = ()) -> None:
        """Take an identifier's bundle, and those of one's own that say an attribute in its place.

        Raises BundleError for a threshold outside of 0..1.
        """
        knows = {name: each for each in (bundle, *own) for name in SHOWN if name in each.attributes}
        self.words = {name: each.attributes[name] for name, each in knows.items()}
        self._thresholds = {name: each.share(name, DEFAULT_THRESHOLD) for name, each in knows.items()}

    def say(self, name: str, probabilities: Probabilities) -> Attribute | None:
        """Return the likeliest word of an attribute from the probabilities of its words, None where it is not sure."""
        # Empty where a bundle has no such head, or a photo was never asked.
        values = probabilities.get(name, ())
        if name not in self.words or not len(values):
            return None
        best = int(np.argmax(values))
        # One threshold for all words: it was calibrated on the likeliest word, whichever that is.
        if values[best] < self._thresholds[name]:
            return None
        return Attribute(name=self.words[name][best], probability=float(values[best]))
