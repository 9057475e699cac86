"""Read what a seller declared, in free words, as a taxon that can be compared with what photos show."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from carspotter.labels.attribute_words import find_word
from carspotter.labels.known import Known
from carspotter.labels.spellings import seller_name
from carspotter.labels.words import tokens
from carspotter.recognition import declared as declaring
from carspotter.serving.schemas import DeclaredWords
from carspotter.taxonomy import Taxonomy

if TYPE_CHECKING:
    from carspotter.labels.resolve import Resolver


class DeclaredReader:
    """Read declarations by the names of one identifier and by the known ones; these are loaded by the first."""

    def __init__(self, taxonomy: Taxonomy, attributes: Mapping[str, Sequence[str]]) -> None:
        """Take the identifier's taxonomy, and the words that each attribute can say."""
        self._taxonomy = taxonomy
        self._attributes = attributes
        self._known: Known | None = None
        self._resolver: Resolver | None = None
        self._lock = threading.Lock()

    def read(self, words: DeclaredWords) -> declaring.DeclaredWords:
        """Return a declaration as a taxon; what cannot be read keeps what was said, so that it counts as unknown."""
        with self._lock:
            found = self._open().resolve(words.make, words.model, year=words.year, title=words.title)
        said = " ".join(str(word) for word in (words.make, words.model, words.year, words.title) if word)
        return declaring.DeclaredWords(
            make=found.make or (words.make if tokens(words.make) else None),
            model=found.model or self._unread(found.make, words.model),
            generation=found.generation,
            year=found.year or words.year,
            said=said,
            colour=self._attribute("colour", words.colour),
            body=self._attribute("body", words.body),
        )

    def _open(self) -> Resolver:
        if self._resolver is None:
            from carspotter.labels.resolve import Resolver

            self._known = Known.bundled()
            self._known.add_taxonomy(self._taxonomy)
            self._resolver = Resolver(self._known)
        return self._resolver

    def _unread(self, make: str | None, model: str | None) -> str | None:
        """Return a model that no name fits, unless it says nothing ("other") or is the make once more."""
        known = None if self._known is None else self._known.makes.get(make or "")
        return model if seller_name(tokens(model), known.spellings if known else ()) else None

    def _attribute(self, name: str, said: str | None) -> str | None:
        """Read a seller's colour or body as one of the words that can be said; what cannot be read stays as it was."""
        if not said or not said.strip():
            return None
        return find_word(name, said, self._attributes.get(name, ())) or said
