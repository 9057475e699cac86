"""A learned gallery in, a bundle out: the base identifier's network, the new head, and a card that tells of both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carspotter.errors import BundleError
from carspotter.recognition.gallery import Gallery
from carspotter.runtime.bundle import NETWORK, SUBJECT, ModelBundle


def save_gallery(
    gallery: Gallery, base: ModelBundle, folder: str | Path, *, name: str, card: Mapping[str, Any]
) -> ModelBundle:
    """Write a bundle of the base identifier's network and the learned head, and return it.

    `card` says what the base's card cannot: data, and if wanted figures, use, licence, retrain. The base's own use,
    licence and data stand beside them, since its weights go on into the new bundle. Raises BundleError for a base that
    is no identifier, StorageError when the folder cannot be written.
    """
    if base.task != "identifier":
        raise BundleError(f"bundle {base.name}: task is {base.task!r}; a head needs an identifier's embeddings")
    # The network is copied byte for byte: only what answers behind it is new.
    network, weights = base.read_network()
    learned = ModelBundle(
        task="identifier",
        name=name,
        preprocessing=base.preprocessing,
        # The base's threshold of `subject` stays valid, since that head belongs to the copied network.
        calibration={**_inherited(base), **gallery.calibration},
        card=_card(gallery, base, card),
        taxonomy=gallery.taxonomy,
        attributes=base.attributes,
        head=gallery.head,
        network=base.taxonomy if base.head is None else base.network,
        # What its network learnt from; the head's own photos are told by the split.
        seen=base.seen,
        file=base.file,
        precision=base.precision,
    )
    return learned.save(folder, network, weights=weights)


def _inherited(base: ModelBundle) -> dict[str, Any]:
    """Return what stays calibrated with the copied network: its attributes, and its own names' thresholds."""
    kept = {key: value for key, value in base.calibration.items() if key in (*base.attributes, SUBJECT, NETWORK)}
    return kept if base.head is not None else {**kept, NETWORK: base.calibration.get("thresholds", {})}


def _card(gallery: Gallery, base: ModelBundle, card: Mapping[str, Any]) -> dict[str, Any]:
    recipe = {"method": gallery.method, "photos": gallery.photos, "classes": len(gallery.taxonomy)}
    if gallery.method == "probe":
        recipe["strength"] = gallery.strength  # type: ignore[assignment]
    said = {
        "use": f"{card.get('use') or 'As its network may be used.'} The network, {base.name}: {base.card['use']}",
        "licence": f"Head: {card.get('licence') or 'as the photographs it learnt from'}. "
        f"Network, {base.name}: {base.card['licence']}",
        "data": {"head": card.get("data") or f"{gallery.photos} photographs", "network": base.card["data"]},
        "recipe": {**recipe, "network": base.name, "network's recipe": base.card["recipe"]},
        "figures": card.get("figures") or {"judged on": gallery.judged_on},
        "retrain": card.get("retrain") or "carspotter learn PROJECT",
        **{key: base.card[key] for key in ("notice",) if key in base.card},
    }
    return {**said, **{key: value for key, value in card.items() if key not in said}}
