"""Find the word of an identifier's attribute for what a seller wrote about colour or body.

"Dunkelblau metallic", "azul" and "синий" are "blue", "estate" and "универсал" are "wagon". A wording that names two
colours, or none that is known, gives None: it knows no makers' paints beyond the plain colour in their names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources

from carspotter.labels.words import key, tokens

_MOST_TOKENS = 3  # "people carrier", "rosso amaranto metallizzato": no known wording is longer
_LEAST_ENDING = 4
"""Letters that a known word has at least to count as the end of a longer one: "silber" of "brillantsilber"."""


def find_word(attribute: str, said: str, words: Sequence[str]) -> str | None:
    """Return which of an identifier's `words` for "colour" or "body" a seller's wording means, None where unclear."""
    groups = _groups(attribute)
    # An identifier that distinguishes crossovers and SUVs has a word of its own for each, whatever the table joins.
    own = {key(tokens(word)): word for word in words}
    ranked = sorted(own, key=lambda spelling: groups.get(spelling) == spelling)  # what a group is called by, last
    of_group = {groups[spelling]: own[spelling] for spelling in ranked if spelling in groups}
    found = {own.get(spelling) or of_group.get(groups.get(spelling, "")) for spelling in _named(said, {*groups, *own})}
    return found.pop() if len(found) == 1 else None


def known_spellings(attribute: str) -> frozenset[str]:
    """Return the words, as keys, that name a value of an attribute: of "colour" also "schwarz" and "nero"."""
    return frozenset(_groups(attribute))


def _named(said: str, known: set[str]) -> Iterator[str]:
    """Yield the known spellings that a wording holds, longer ones first; no token counts twice."""
    left = list(tokens(said))
    for count in range(min(_MOST_TOKENS, len(left)), 0, -1):
        at = 0
        while at + count <= len(left):
            spelling = key(left[at : at + count])
            if spelling in known:
                yield spelling
                left[at : at + count] = [""]  # keeps what stood before and behind apart
            at += 1
    for token in left:
        endings = (token[start:] for start in range(1, len(token) - _LEAST_ENDING + 1))
        ending = next((ending for ending in endings if ending in known), None)
        if ending is not None:
            yield ending


@cache
def _groups(attribute: str) -> Mapping[str, str]:
    """Return for each known spelling the word that its group is called by; nothing for an unknown attribute."""
    text = resources.files("carspotter.labels").joinpath("attribute_words.json").read_text(encoding="utf-8")
    groups = json.loads(text).get(attribute, {})
    return {key(tokens(spelling)): name for name, others in groups.items() for spelling in (name, *others)}
