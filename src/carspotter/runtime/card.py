"""Render a bundle's card (`card.json`) for people (`CARD.md`).

The card says what a network was trained on, how well it does, and what it may be used for. This file checks that the
card says something of each, and renders it; it does not know whether that is true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carspotter.errors import BundleError

CARD_KEYS = ("use", "licence", "data", "recipe", "figures", "retrain")
"""What each card must say, in the order of `CARD.md`: may I use it, what is it made of, how good is it, what else."""

_TITLES = {
    "use": "What it may be used for",
    "licence": "Licence",
    "data": "Trained on",
    "recipe": "Recipe",
    "figures": "Figures",
    "retrain": "Train your own",
    "notice": "Notice",
}


def check_card(card: Mapping[str, Any], what: str) -> None:
    """Raise BundleError unless the card says something under each of `CARD_KEYS`; `what` begins the message."""
    # 0 and False are values; only what is empty says nothing.
    missing = [key for key in CARD_KEYS if card.get(key) in (None, "", {}, [])]
    if missing:
        raise BundleError(
            f"{what}: its card says nothing of {', '.join(missing)}; card.json must fill {', '.join(CARD_KEYS)}"
        )


def render_card(card: Mapping[str, Any], *, name: str, task: str) -> str:
    """Return the card as Markdown: text as paragraphs, lists as lists, mappings as tables, in the order of `CARD_KEYS`.

    Further keys of the card follow with their own name as the title.
    """
    lines = [f"# {name}", "", f"A model bundle for the task `{task}`.", ""]
    # Ours first and in one order, so that two cards can be read side by side.
    keys = [key for key in CARD_KEYS if key in card] + [key for key in card if key not in CARD_KEYS]
    for key in keys:
        lines += [f"## {_TITLES.get(key, key)}", "", *_block(card[key]), ""]
    return "\n".join(lines)


def _block(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        rows = [f"| {_cell(key)} | {_cell(item)} |" for key, item in value.items()]
        return ["| what | value |", "|---|---|", *rows]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [f"- {_text(item)}" for item in value]
    return [str(value)]


def _cell(value: Any) -> str:
    # A bar or a line break would end the cell.
    return _text(value).replace("|", "\\|").replace("\n", " ")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
