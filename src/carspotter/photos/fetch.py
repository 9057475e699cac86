"""Get the bytes of each photo of a listing, once: a row stage from `listing_photos` to `files`.

In: rows with a photo's id, ad, source and URL. Out: a row with path, size and SHA-256, or with the reason why there is
none. Photos on a local disk stay where they are; others are asked for by the rules of their source and written to
`photos/<ad_id>/<perceptual hash>.<suffix>` below the project, their bytes untouched. What passes by itself (a timeout,
a server in trouble) is asked again some times, and once more at the next build. It does not judge photos: unreadable
bytes are a file, and `checks` says so.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from carspotter import storage, storage_errors
from carspotter.catalog.tables import OK
from carspotter.errors import StorageError
from carspotter.photos import disk
from carspotter.photos.hosts import Hosts
from carspotter.photos.names import HALF_WRITTEN, not_saved, save
from carspotter.photos.robots import Robots
from carspotter.photos.rules import PRIVATE, FetchSettings, SourceRules, is_local
from carspotter.web_policy import UrlPolicy, redirect_of

Row = dict[str, Any]

VERSION = "1"
"""Rises when the same photo would get another row."""

LASTING = (OK, "missing", "gone", "too-large", "not-a-photo", "quarantined")
"""What a later build asks again only on request; all else may be cured by then. A photo that is missing on a
local disk is looked for by each build (`disk`)."""

NOT_ASKED = "not-asked"
"""The status of a photo whose host was left alone; it comes before those that failed."""

_RETRIED = ("timeout", "server-error", "unreachable")
# 0.5, 1, 2 and 4 s: a hiccup passes, a restart does not. Servers that ask for more than half a minute are left.
_FIRST_WAIT_S, _GROWTH, _MAX_WAIT_S = 0.5, 2, 30.0
# A photo is about as large: below this a download would most likely be for nothing.
_LEAST_FREE_BYTES = 1 << 20
_LOOKED_AT = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    status: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Fetch the photos of a project; a row stage.

    `attempt` names the build, for instance by its time: within one, each photo is tried once; the next one takes up
    what did not last. `rules` are those of each source by its name, `other_rules` those of any other, by default a
    stranger's. `again` names statuses of `files` and `checks` whose photos are to be tried again, too.
    """

    project: Path
    settings: FetchSettings = field(default_factory=FetchSettings)
    rules: Mapping[str, SourceRules] = field(default_factory=dict)
    other_rules: SourceRules = field(default_factory=SourceRules)
    attempt: str = "1"
    again: tuple[str, ...] = ()
    first_wait_s: float = _FIRST_WAIT_S
    hosts: Hosts = field(default_factory=Hosts, repr=False, compare=False)
    robots: Robots = field(default_factory=Robots, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name the stage."""
        return "fetch"

    @property
    def reads(self) -> str:
        """Give the query of the photos of ads that count and have no lasting row in `files`, or no copy yet."""
        lasting = ", ".join(f"'{status}'" for status in LASTING if status not in self.again)
        again = ", ".join(f"'{status}'" for status in self.again if status != OK) or "''"
        is_elsewhere = "f.modified IS NOT NULL AND NOT starts_with(f.path, 'photos/')"
        uncopied = is_elsewhere if self.settings.copy_local else "false"
        return f"""
            SELECT p.photo_id, p.ad_id, p.url, l.source, coalesce(f.status, '{NOT_ASKED}') <> '{NOT_ASKED}' AS tried,
                f.status AS before, f.message AS said, f.path, f.bytes, f.sha256
            FROM listing_photos p JOIN listings l USING (ad_id) LEFT JOIN files f ON f.photo_id = p.photo_id
            WHERE p.status = '{OK}' AND l.status = '{OK}' AND (
                f.status IS NULL OR f.status NOT IN ({lasting or "''"}) OR f.stage_version NOT LIKE '{VERSION}.%'
                OR (f.status = '{OK}' AND p.photo_id IN (SELECT photo_id FROM checks WHERE status IN ({again})))
                OR (f.status = '{OK}' AND {uncopied})
            )"""

    @property
    def order(self) -> str:
        """Put photos that were never tried first, and shuffle them in each build: those of one ad fail together."""
        return f"candidate.tried, hash(candidate.photo_id || '{self.attempt}')"

    @property
    def writes(self) -> Mapping[str, str]:
        """Give the table that it writes, with a version for each attempt."""
        return {"files": f"{VERSION}.{self.attempt}"}

    def setup(self) -> None:
        """Need nothing ahead."""

    def process(self, rows: list[Row]) -> dict[str, list[Row]]:
        """Return a row of `files` for each photo; a URL that several photos of a source share is read once."""
        jobs: dict[str, dict[tuple[str, str], list[Row]]] = {}
        for row in rows:
            job = (row["url"], row.get("source") or "")
            jobs.setdefault(_host(row["url"]), {}).setdefault(job, []).append(row)
        gate = threading.Semaphore(self.settings.parallel)
        with ExitStack() as stack:
            pools = {
                host: stack.enter_context(ThreadPoolExecutor(self._at_once(source for _, source in asked)))
                for host, asked in jobs.items()
            }
            futures = [
                pools[host].submit(self._photo, host, url, photos, gate=gate)
                for host, asked in jobs.items()
                for (url, _), photos in asked.items()
            ]
            done = {row["photo_id"]: row for future in futures for row in future.result()}
        return {"files": [done[row["photo_id"]] for row in rows]}

    def _rules(self, source: str) -> SourceRules:
        return self.rules.get(source, self.other_rules)

    def _at_once(self, sources: Iterable[str]) -> int:
        limits = (self._rules(source).per_host for source in sources)
        return min([self.settings.per_host, *(limit for limit in limits if limit is not None)])

    def _photo(self, host: str, url: str, photos: Sequence[Row], *, gate: threading.Semaphore) -> list[Row]:
        """Read one URL and return the rows of all photos that are there."""
        rules = self._rules(photos[0].get("source") or "")
        why_not = rules.why_not(url)
        if why_not is not None:
            return _stopped(photos, _Stop(status=PRIVATE if is_local(url) else "forbidden", message=why_not))
        found: Row = {}
        if is_local(url):
            data, found = self._on_disk(url)
        else:
            data = self._read(_Asked(url=url, host=host, rules=rules, policy=self._policy(url, rules)), gate)
        if isinstance(data, _Stop):
            return [stopped | found for stopped in _stopped(photos, data)]
        found |= {"bytes": len(data), "sha256": sha256(data).hexdigest(), "status": OK}
        return [self._saved(row, data, found) for row in photos]

    def _saved(self, row: Row, data: bytes, found: Row) -> Row:
        if "path" in found and not self.settings.copy_local:
            return {"photo_id": row["photo_id"], **found}
        try:
            return {"photo_id": row["photo_id"], **found, "path": save(self.project, row["ad_id"], data)}
        except OSError as error:
            return {"photo_id": row["photo_id"], **not_saved(error)}

    def _on_disk(self, url: str) -> tuple[bytes | _Stop, Row]:
        """Read a local photo; return its bytes with its path and time, which was taken before."""
        place = disk.find(str(self.project), url)
        found: Row = {} if place is None else {"path": place[0], "modified": place[1].st_mtime_ns}
        try:
            # A relative path is one below the project, which may be moved.
            path = storage.local_path(url) if place is None else Path(place[0])
            return storage.read(str(self.project / (path or url)), max_bytes=self.settings.max_bytes), found
        except (StorageError, ValueError) as error:
            why = storage_errors.reason(error) if isinstance(error, StorageError) else "failed"
            return _Stop(status=why, message=str(error)), {name: found[name] for name in found if name == "modified"}

    def _policy(self, url: str, rules: SourceRules) -> UrlPolicy | None:
        return rules.policy(url, self.settings) if url.casefold().startswith(("http://", "https://")) else None

    def _read(self, asked: _Asked, gate: threading.Semaphore) -> bytes | _Stop:
        """Read a remote photo, again after growing waits where that may help."""
        stop: _Stop | None = None
        for turn in range(self.settings.retries + 1):
            if turn and self.hosts.is_doubtful(asked.host):
                break
            refused = self._refused(asked.host)
            if refused is not None:
                return stop or refused
            time.sleep(self.hosts.pause_left_s(asked.host))
            found = self._attempt(asked, gate, is_first=not turn)
            if isinstance(found, bytes):
                return _judged(found)
            stop = found
            if stop.status not in _RETRIED:
                break
            if turn < self.settings.retries:
                time.sleep(self.first_wait_s * _GROWTH**turn)
        return stop or _Stop(status=NOT_ASKED, message="was not asked")

    def _refused(self, host: str) -> _Stop | None:
        """Return why a host is not to be asked now, if so."""
        why = self.hosts.why_left(host)
        if why is not None:
            left = f"{host} was left alone after failures in a row ({why}); the next build asks for this photo first"
            return _Stop(status=NOT_ASKED, message=left)
        pause_s = self.hosts.pause_left_s(host)
        if pause_s > _MAX_WAIT_S:
            return _Stop(status=NOT_ASKED, message=f"{host} asked for a pause of {pause_s:.0f} s")
        return None

    def _attempt(self, asked: _Asked, gate: threading.Semaphore, *, is_first: bool) -> bytes | _Stop:
        """Read once, in the host's turn, and note how the host did."""
        try:
            if asked.rules.obeys_robots and asked.policy is not None:
                found = self._as_allowed(asked.url, asked.policy, asked.rules.delay_s, gate)
            else:
                found = self._bytes(asked.url, asked.policy, gate)
        except StorageError as error:
            return self._failed(asked.host, error, is_first=is_first)
        if isinstance(found, bytes):
            self.hosts.answered(asked.host)
        return found

    def _as_allowed(self, url: str, policy: UrlPolicy, delay_s: float, gate: threading.Semaphore) -> bytes | _Stop:
        """Read a photo hop by hop: robots.txt must allow each URL that a redirect leads to, as it must the first."""
        one_hop = replace(policy, max_redirects=0)
        for hops_left in reversed(range(policy.max_redirects + 1)):
            host = _host(url)
            if not self.robots.allows(url, policy):
                return _Stop(status="robots", message=f"robots.txt of {host} forbids it")
            time.sleep(self.hosts.turn_s(host, max(delay_s, self.robots.delay_s(url, policy))))
            try:
                return self._bytes(url, one_hop, gate)
            except StorageError as error:
                following = redirect_of(error)
                if following is None or not hops_left:
                    raise
                url = following
        raise AssertionError("the last hop has returned or raised")

    def _bytes(self, url: str, policy: UrlPolicy | None, gate: threading.Semaphore) -> bytes | _Stop:
        with gate:
            if shutil.disk_usage(self.project).free < _LEAST_FREE_BYTES:
                return _Stop(status="no-space", message="no space left where the project lies; make room")
            limits = {"max_bytes": self.settings.max_bytes, "timeout_s": self.settings.timeout_s}
            return storage.read(url, policy=policy, **limits)  # type: ignore[arg-type]

    def _failed(self, host: str, error: StorageError, *, is_first: bool) -> _Stop:
        why = storage_errors.reason(error)
        wait = storage_errors.retry_after_s(error)
        if wait is not None:
            self.hosts.pause(host, wait)
        if why in _RETRIED:
            self.hosts.failed(host, why, is_first=is_first)
        elif why != PRIVATE:  # nobody was asked
            self.hosts.answered(host)
        hint = "; if it is your own network's, name it in [fetch] allow" if why == PRIVATE else ""
        return _Stop(status=why, message=f"{error}{hint}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    url: str
    host: str
    rules: SourceRules
    policy: UrlPolicy | None


def _stopped(photos: Sequence[Row], stop: _Stop) -> list[Row]:
    """Return rows that say why there is no photo.

    Where no request was made, what the last one met stands; where a photo that is here was asked for again, it stays.
    """
    rows = []
    for row in photos:
        found: Row = {"photo_id": row["photo_id"], "status": stop.status, "message": stop.message}
        before = row.get("before")
        if before == OK and not is_local(row["url"]):
            found |= {name: row[name] for name in ("path", "bytes", "sha256")}
            found |= {"status": OK, "message": f"asked again in vain ({stop.status}); this is the photo of before"}
        elif stop.status == NOT_ASKED and before is not None:
            found |= {"status": before, "message": row["said"]}
        rows.append(found)
    return rows


def _host(url: str) -> str:
    """Return whom to ask for a URL: "https://host:port", or "" for the local disk."""
    if is_local(url):
        return ""
    scheme, _, rest = url.partition("://")
    try:
        return f"{scheme.casefold()}://{urlsplit(url).netloc.rpartition('@')[2].casefold()}"
    except ValueError:
        return f"{scheme.casefold()}://{rest[:40]}"


def _judged(data: bytes) -> bytes | _Stop:
    """Refuse what no photo begins with: nothing, or text such as a page that says sorry."""
    if not data:
        return _Stop(status="not-a-photo", message="the answer is empty (0 bytes)")
    start = data[:_LOOKED_AT]
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # else a letter was cut at the end
            return data
        text = start[: error.start].decode()
    if any(character < " " and character not in "\t\n\r\f" for character in text):
        return data
    # What the text says is not kept: it may be meant for machines of the own network alone.
    what = "a web page" if text.lstrip("\ufeff \t\r\n").startswith("<") else "text"
    return _Stop(status="not-a-photo", message=f"the answer is {what}, not a photo")


def sweep(project: Path) -> None:
    """Remove what a killed fetch left half written; no fetch of this project may run meanwhile."""
    shutil.rmtree(project / HALF_WRITTEN, ignore_errors=True)
