"""Cards: what they must say, and how they read."""

import pytest

from carspotter.errors import BundleError
from carspotter.runtime.card import CARD_KEYS, check_card, render_card
from tiny_bundles import CARD


@pytest.mark.parametrize("key", CARD_KEYS)
def test_a_silent_card_is_an_error(key: str) -> None:
    card = {name: text for name, text in CARD.items() if name != key}
    for incomplete in (card, card | {key: ""}):
        with pytest.raises(BundleError, match=f"bundle x: its card says nothing of {key}"):
            check_card(incomplete, "bundle x")


def test_card_for_people() -> None:
    card = dict(CARD) | {
        "data": ["16 185 photos", {"name": "ads", "photos": 3}],
        "figures": {"top-1 | top-5": [0.891234567, 0.98], "note": "a\nb"},
        "seed": 7,
    }
    text = render_card(card, name="lite0", task="identifier")
    assert text.startswith("# lite0\n")
    assert "- 16 185 photos\n- name: ads, photos: 3\n" in text
    assert "| top-1 \\| top-5 | 0.891235, 0.98 |\n| note | a b |" in text
    assert text.index("## What it may be used for") < text.index("## Licence") < text.index("## seed")
