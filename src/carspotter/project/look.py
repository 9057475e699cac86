"""The step locate: check, locate and embed photos, each decoded once, and judge stored scores by new thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from carspotter.photos.checks import CheckSettings, judge
from carspotter.project.build import UNCHANGED, Build
from carspotter.project.locate import LocateSettings, LocateStage
from carspotter.sources.sync import forget_changed

Row = dict[str, Any]


def look_at_photos(build: Build, parts: tuple[str, ...] | None = None) -> Mapping[str, Any]:
    """Check, locate and embed the photos that lack it, or whose file has changed; thresholds that changed are applied.

    `parts` are the tables to fill, all by default.
    """
    settings = build.project.settings
    changed = forget_changed(build.catalog)
    look = LocateStage(
        folder=str(build.project.folder),
        check=settings.check,
        locate=settings.locate,
        **({"parts": parts} if parts else {}),  # type: ignore[arg-type]
    )
    stats = {**build.rows(look), **({"changed on disk": changed} if changed else {})}
    judged = _judge_photos(build)
    stats |= {"judged anew": judged} if judged else {}
    # By the funnel: a photo that fails both ways stops at the check, and is counted once.
    stopped = build.stopped("check", *(() if parts == ("checks",) else ("locate",))) if any(stats.values()) else {}
    return {**stats, **stopped}


def _judge_photos(build: Build) -> int:
    """Apply thresholds to stored scores where settings have changed, and return how many rows that changes."""
    settings = build.project.settings

    def work() -> Mapping[str, Any]:
        checks = _changed(build.catalog.rows("SELECT * FROM checks WHERE width IS NOT NULL"), _judged(settings.check))
        findings = _changed(build.catalog.rows("SELECT * FROM findings WHERE status = 'ok'"), _gated(settings.locate))
        for table, rows in (("checks", checks), ("findings", findings)):
            _append(build, table, rows)
        return {"changed": len(checks) + len(findings)}

    # Only a change of settings makes work: a new photo was judged when it was looked at.
    done = build.whole("judge", reads=(), writes=(), settings=[settings.check, settings.locate.least()], work=work)
    return 0 if UNCHANGED in done else int(done["changed"])


def _judged(settings: CheckSettings) -> Callable[[Row], Row]:
    def change(row: Row) -> Row:
        flags, status = judge(row, settings)
        return {**row, "flags": flags, "status": status}

    return change


def _gated(settings: LocateSettings) -> Callable[[Row], Row]:
    least = settings.least()
    return lambda row: {**row, "passed": row["exterior"] >= least}


def _changed(rows: list[Row], change: Callable[[Row], Row]) -> list[Row]:
    return [fresh for row in rows if (fresh := change(row)) != row]


def _append(build: Build, table: str, rows: list[Row]) -> None:
    """Append facts under the version that each had: to judge a score anew is no new look at the photo."""
    versions: dict[str, list[Row]] = {}
    for row in rows:
        plain = {name: value for name, value in row.items() if value is not None and name != "stage_version"}
        versions.setdefault(row["stage_version"], []).append(plain)
    for version, part in versions.items():
        build.catalog.append(table, part, version=version)
