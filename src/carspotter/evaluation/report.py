"""Write the report on a prediction table: one HTML page with plots and a gallery of mistakes, and its JSON.

It counts nothing itself. The page needs no other file and no network; what comes from the table is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from carspotter import __version__, storage
from carspotter.errors import MissingExtraError
from carspotter.evaluation import plots
from carspotter.evaluation.compare import Comparison, compare
from carspotter.evaluation.gallery import HEIGHT, Predict, crop, occlusion_map_of, overlay, parse_box
from carspotter.evaluation.metrics import Evaluation, LevelFigures, ViewpointFigures, evaluate, plain
from carspotter.evaluation.mistakes import (
    DEEPEST_FIRST,
    Confusion,
    Mistake,
    confusions,
    merge_suggestions,
    worst_mistakes,
)
from carspotter.evaluation.pictures import Epoch, alone, class_bars, curves
from carspotter.evaluation.predictions import UNLABELLED, Depth, Predictions
from carspotter.pixels import Pixels
from carspotter.records import UNKNOWN_VIEWPOINT
from carspotter.runtime.blur import Blur
from carspotter.taxonomy import LEVELS
from carspotter.thumbnails import thumbnail

PAIRS = 30
"""Confusion pairs on the page; the JSON has a hundred."""
PAIRS_JSON = 100
FEWEST_PAIRS = 10
"""Pairs that are shown even if each is of one photo."""
PER_PAIR = 3
"""Mistakes of one pair in the gallery: thirty photos of the commonest confusion would hide all others."""
CHANGES = 6
Pictures = Callable[[str], Pixels | None]


def write_report(
    path: str | Path,
    predictions: Predictions,
    *,
    pictures: Pictures | None = None,
    predict: Predict | None = None,
    other: Predictions | None = None,
    worst: int = 24,
    pad: float = 0.0,
    log: Sequence[Epoch] = (),
    learnt: Mapping[str, int] | None = None,
    blur: Blur | None = None,
) -> Path:
    """Write `report.html` into a folder, `metrics.json` beside it, and return the page's path.

    Pictures lie beside it, too: `classes.svg`, and `losses.svg` and `figures.svg` by epoch where a `log` is given.

    `pictures` gives the upright pixels (h, w, 3) of a photo by its name, or None; `blur` hides what none may see of
    them. `predict` answers crops (n, h, w, 3) of the photos' boxes, widened by `pad` of their sides, with probabilities
    (n, classes); with both, heat maps show which pixels decided. `other` is a run to compare with, `learnt` how many
    photos of each class were learnt from. Raises EvaluationError, StorageError, and MissingExtraError without the extra
    `data`.
    """
    template = _template(predictions.attribute)
    figures = evaluate(predictions)
    depth = next(depth for depth in DEEPEST_FIRST if (predictions.truth_at(depth) != UNLABELLED).any())
    pairs = confusions(predictions, depth)
    merges = () if predictions.attribute else merge_suggestions(predictions)
    chosen = worst_mistakes(predictions, worst, per_pair=PER_PAIR)
    compared = _compared(predictions, other)
    said = figures.to_dict() | {
        "version": __version__,
        "confusions": plain(pairs[:PAIRS_JSON]),
        "merge_suggestions": plain(merges),
        "worst_mistakes": plain(chosen),
        "compared": compared.to_dict() if compared else None,
        "learnt": dict(learnt or {}),
    }
    html = template.render(
        figures=figures,
        depth=depth,
        shown=_shown(figures),
        pairs=_frequent(pairs),
        n_pairs=len(pairs),
        merges=merges,
        cards=_cards(predictions, chosen, pictures, predict, pad=pad, blur=blur),
        heated=bool(pictures and predict),
        n_wrong=_n_wrong(figures, depth),
        compared=compared,
        changes=_changes(compared),
        classes=_worst_first(figures),
        learnt=learnt or {},
        drawn=(drawn := curves(log) | {"classes": class_bars(figures.classes)}),
        plots=plots,
        floor=plots.floor_of(each.right for each in figures.levels),
        view_floor=plots.floor_of(each for view in _views(figures) for each in (view.right, view.make_right)),
        reliability=plots.reliability_plot(figures.reliability),
        coverage=plots.coverage_plot(_shown(figures)),
        views=_views(figures),
        levels=LEVELS,
        version=__version__,
    )
    page = Path(path) / "report.html"
    storage.write_json(page.with_name("metrics.json"), said)
    for name, picture in drawn.items():
        storage.write(page.with_name(f"{name}.svg"), alone(picture))
    storage.write(page, html.encode())
    return page


def _template(attribute: str) -> Any:
    """Return the page; what has no levels is called by its attribute where others have a class."""
    return page_template(
        "carspotter.evaluation",
        percent=percent,
        span=span,
        points=points,
        p_value=p_value,
        named=lambda depth: attribute if attribute and depth == "class" else depth,
    )


def page_template(package: str, **filters: Callable[..., str]) -> Any:
    """Return the Jinja template `report.html` of a package, which may import `page.html` from this one.

    Raises MissingExtraError without the extra `data`.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingExtraError("jinja2", "data") from error
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(each, "") for each in (package, "carspotter.evaluation")]),
    )
    environment.filters |= filters
    return environment.get_template("report.html")


def percent(value: float) -> str:
    """Write a share as per cent, "–" where there is none."""
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def span(figure: Any) -> str:
    """Write the interval of a share or estimate as per cent."""
    return "" if math.isnan(figure.value) else f"{100 * figure.low:.1f}–{100 * figure.high:.1f}"


def points(value: float) -> str:
    """Write a difference of shares as percentage points with its sign."""
    return "–" if math.isnan(value) else f"{100 * value:+.1f}".replace("-", "−")


def p_value(value: float) -> str:
    """Write a p-value with two digits that count, small ones as a bound."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _shown(figures: Evaluation) -> list[LevelFigures]:
    """Leave out the levels that have no truth, and those that are the level above once more."""
    shown: list[LevelFigures] = []
    for level in figures.levels:
        above = shown[-1] if shown else None
        if not level.right.total:
            continue
        if above and (level.names, level.right, level.curve) == (above.names, above.right, above.curve):
            continue
        shown.append(level)
    return shown


def _views(figures: Evaluation) -> tuple[ViewpointFigures, ...]:
    """Leave the viewpoints out where none is known."""
    known = any(view.name != UNKNOWN_VIEWPOINT for view in figures.viewpoints)
    return figures.viewpoints if known else ()


def _frequent(pairs: tuple[Confusion, ...]) -> tuple[Confusion, ...]:
    """Keep the pairs that are worth a line: those of several photos, and some of the others."""
    several = sum(pair.share.count > 1 for pair in pairs)
    return pairs[: min(PAIRS, max(several, FEWEST_PAIRS))]


def _n_wrong(figures: Evaluation, depth: Depth) -> int:
    right = figures.top1 if depth == "class" else next(each.right for each in figures.levels if each.level == depth)
    return right.total - right.count


def _worst_first(figures: Evaluation) -> list[Any]:
    seen = [each for each in figures.classes if each.support]
    return sorted(seen, key=lambda each: (each.f1, -each.support, each.name))


def _compared(predictions: Predictions, other: Predictions | None) -> Comparison | None:
    if other is None:
        return None
    if other.name == predictions.name:
        other = replace(other, name=f"{other.name} (the other run)")
    return compare([other, predictions])


def _changes(compared: Comparison | None) -> list[tuple[str, float]]:
    """Return the classes whose recall changed most, losses first."""
    if compared is None or not compared.same_classes:
        return []
    before, after = compared.evaluations
    changes = [
        (new.name, new.recall.value - old.recall.value)
        for old, new in zip(before.classes, after.classes, strict=True)
        if new.support and new.recall.count != old.recall.count
    ]
    ranked = sorted(changes, key=lambda change: change[1])
    losses = [change for change in ranked if change[1] < 0][:CHANGES]
    return losses + [change for change in ranked if change[1] > 0][-CHANGES:]


def _cards(
    predictions: Predictions,
    chosen: tuple[Mistake, ...],
    pictures: Pictures | None,
    predict: Predict | None,
    *,
    pad: float,
    blur: Blur | None,
) -> list[dict[str, Any]]:
    """Return what the gallery shows of each mistake: its pictures, candidates, and where it comes from."""
    cards = []
    for mistake in chosen:
        about = {name: str(texts[mistake.position]) for name, texts in predictions.about.items()}
        shown = _pictures(predictions, mistake, pictures, predict, pad=pad, blur=blur or _as_it_is) if pictures else []
        said = [f"ad {about['ad_id']}" if about.get("ad_id") else "", about.get("viewpoint", "")]
        cards.append({"mistake": mistake, "pictures": shown, "about": [each for each in said if each]})
    return cards


def _pictures(
    predictions: Predictions, mistake: Mistake, pictures: Pictures, predict: Predict | None, *, pad: float, blur: Blur
) -> list[tuple[str, str]]:
    """Return pictures as (data URI, caption): the photo, what decided, and a photo of what was answered."""
    pixels = pictures(mistake.photo)
    if pixels is None:
        return []
    box = _box(predictions, mistake.position)
    hidden = blur(pixels)
    shown = [(thumbnail(hidden, box=box, height=HEIGHT), "the photo")]
    if predict is not None:
        area = box.pad(pad) if box else None
        heat = occlusion_map_of(_at(predictions, mistake.level, predict), pixels, mistake.answer_index, box=area)
        drop = max(0.0, float(heat.max()))
        shown.append((overlay(crop(hidden, area), heat), f"which pixels decided (up to −{drop:.2f})"))
    position = _example(predictions, mistake)
    example = None if position is None else pictures(str(predictions.photos[position]))
    if position is not None and example is not None:
        shown.append(
            (thumbnail(crop(blur(example), _box(predictions, position)), height=HEIGHT), f"a true {mistake.answer}")
        )
    return shown


def _as_it_is(pixels: Pixels) -> Pixels:
    return pixels


def _box(predictions: Predictions, position: int) -> Any:
    texts = predictions.about.get("box")
    return None if texts is None else parse_box(str(texts[position]), str(predictions.photos[position]))


def _at(predictions: Predictions, depth: Depth, predict: Predict) -> Predict:
    """Return a function that answers a level, made of one that answers classes."""
    if depth == "class":
        return predict
    return lambda images: predictions.taxonomy.sum_to(depth, predict(images))


def _example(predictions: Predictions, mistake: Mistake) -> int | None:
    """Return the row of a photo that truly shows what was answered, from the same side where there is one."""
    members = np.flatnonzero(predictions.truth_at(mistake.level) == mistake.answer_index)
    if not len(members):
        return None
    views = predictions.about.get("viewpoint")
    alike = np.zeros(len(members)) if views is None else views[members] == views[mistake.position]
    surest = predictions.take(members).at(mistake.level)[:, mistake.answer_index]
    return int(members[np.lexsort((-surest, ~alike.astype(bool)))[0]])
