"""What a service counts of itself, in the form that Prometheus reads.

In: requests, batches and predictions as they end. Out: the text of `/metrics`. Names follow Prometheus' own rules:
base units, `_total` for counters. No label takes a value that a client chooses, so that their number stays small.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from carspotter.records import Prediction

CONTENT_TYPE = CONTENT_TYPE_LATEST
NAMESPACE = "carspotter"

_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 30)


class Metrics:
    """Count; one for each application, so that two in one process do not meet."""

    def __init__(self, waiting: Callable[[], float], held: Callable[[], float]) -> None:
        """Take functions that count the photos that wait and the bytes of bodies held."""
        self._registry = CollectorRegistry()
        self.requests = self._histogram(
            "request_seconds", "Time from a request's head to its answer", labels=("route", "status")
        )
        self.errors = self._counter("errors", "Requests that were refused or failed, by code", "code")
        self.queued = self._histogram("queue_seconds", "Time a photo waited")
        self.batches = self._histogram("batch_photos", "Photos in one run", buckets=(1, 2, 4, 8, 16, 32))
        self.batch_seconds = self._histogram("batch_seconds", "Time of one run")
        self.photos = self._counter("photos", "Photos recognised, by kind", "kind")
        self.answers = self._counter("answers", "Vehicles, by the level of their answer", "level")
        self._gauge("queue_photos", "Photos that wait now", waiting)
        self._gauge("upload_bytes", "Bytes of bodies held now", held)

    def _histogram(
        self, name: str, about: str, *, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = _SECONDS
    ) -> Histogram:
        return Histogram(name, about, labels, buckets=buckets, namespace=NAMESPACE, registry=self._registry)

    def _counter(self, name: str, about: str, label: str) -> Counter:
        return Counter(name, about, (label,), namespace=NAMESPACE, registry=self._registry)

    def _gauge(self, name: str, about: str, tell: Callable[[], float]) -> None:
        Gauge(name, about, namespace=NAMESPACE, registry=self._registry).set_function(tell)

    def count_batch(self, photos: int, seconds: float) -> None:
        """Count one run of the networks."""
        self.batches.observe(photos)
        self.batch_seconds.observe(seconds)

    def count_photo(self, prediction: Prediction, waited_s: float | None) -> None:
        """Count one photo's prediction; `waited_s` is None for one that was refused before the queue."""
        if waited_s is not None:
            self.queued.observe(waited_s)
        self.photos.labels("unreadable" if prediction.kind is None else prediction.kind.name).inc()
        for vehicle in prediction.vehicles:
            self.answers.labels("none" if vehicle.answer is None else vehicle.answer.level).inc()

    def text(self) -> bytes:
        """Return all that was counted."""
        return generate_latest(self._registry)
