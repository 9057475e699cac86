"""Turn the run of a training into the bundle `models/trained`: its head calibrated, strangers refused, words kept.

The parts are made elsewhere: the network by `export.kept`, the bar for strangers as `learn` has it by
`recognition.gallery`. The bundle appears whole or not at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from carspotter import storage
from carspotter.evaluation.strangers import stranger_figures
from carspotter.project.folder import TRAINED, Project
from carspotter.recognition.gallery import Gallery, adopt
from carspotter.recognition.unknown import profiles
from carspotter.runtime.bundle import NETWORK, SUBJECT, ModelBundle, shipped

if TYPE_CHECKING:
    from carspotter.export.kept import Exported
    from carspotter.training.identifier.task import IdentifierTask

IDENTIFIER: Final = "identifier"
_CALLED = {"model": "the names of strangers", SUBJECT: "whether it is a car at all"}


def write_bundle(project: Project, task: IdentifierTask, run: Path) -> list[str]:
    """Write the bundle of a run beside its place and put it there; return what of it a person should know."""
    from carspotter.export.kept import AGREES, export_kept

    made = export_kept(run, task, _start(task))
    gallery = _gallery(made, task)
    is_named = made.agreement.get("model", 1.0) >= AGREES
    bundle = ModelBundle(
        task=IDENTIFIER,
        name=TRAINED,
        preprocessing=made.preprocessing,
        taxonomy=task.taxonomy,
        attributes=made.attributes,
        calibration={**made.calibration, **gallery.calibration},
        seen=made.seen,
        head=gallery.head,
        # Without it no stranger is called by a name: one that the training has moved would be a guess.
        network=made.names if is_named else None,
        card={**made.card, "figures": {**made.card["figures"], **_figures(gallery, made.agreement)}},
    )
    if not is_named:
        bundle = replace(bundle, calibration={k: v for k, v in bundle.calibration.items() if k != NETWORK})
    for left in project.trained.parent.glob(f".{TRAINED}.*.part"):  # by a training that was killed here
        shutil.rmtree(left, ignore_errors=True)
    with storage.replacing_folder(project.trained) as place:
        bundle.save(place, made.network)
    return _words(made.agreement, gallery, AGREES)


def _start(task: IdentifierTask) -> ModelBundle | None:
    """Return the shipped identifier where a training started from it and taught it no further heads of its own."""
    return shipped(IDENTIFIER) if task.recipe.model.start == IDENTIFIER and not task.attributes else None


def _gallery(made: Exported, task: IdentifierTask) -> Gallery:
    learnt, held, head = made.learnt, made.held, made.head
    if learnt.said is not None:
        head = replace(head, profiles=profiles(learnt.said, learnt.classes, len(task.taxonomy)))
    return adopt(
        head,
        held.embeddings,
        held.classes,
        task.taxonomy,
        said=held.said,
        photos=len(task.photos),
        seed=task.recipe.seed,
    )


def _figures(gallery: Gallery, agreement: Mapping[str, float]) -> dict[str, float]:
    bar = gallery.refusal
    shares: dict[str, Any] = {f"{name} as the network it started from": share for name, share in agreement.items()}
    if bar is not None and len(bar.known) and len(bar.unknown):
        found = stranger_figures(bar.known, bar.unknown, bar.least)
        shares |= {"classes taken out in turn: AUROC": found.auroc.value, "kept of own": found.kept.value}
        shares |= {"classes taken out in turn: refused": found.refused.value}
    return {name: round(float(share), 4) for name, share in shares.items()}


def _words(agreement: Mapping[str, float], gallery: Gallery, least: float) -> list[str]:
    """Say which words of the start were kept, what was lost, and whether strangers are refused."""
    kept = [name for name, share in agreement.items() if share >= least and name not in _CALLED]
    lost = [f"{_CALLED.get(name, name)} ({share:.0%} as before)" for name, share in agreement.items() if share < least]
    said = [f"kept from the shipped identifier: {', '.join(kept)}"] if kept else []
    said += [f"left out, since the training has changed them too much: {', '.join(lost)}"] if lost else []
    if gallery.refusal is None:
        said.append("no bar for strangers: three classes with photos to choose by are needed")
    return said
