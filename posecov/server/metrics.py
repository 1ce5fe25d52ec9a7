"""What the server counts, in the words of Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from posecov.model import BATCH

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter("posecov_requests", "Requests answered", ["route", "status"], registry=self._registry)
        self._seconds = Histogram(
            "posecov_request_seconds", "From header to answer", ["route"], buckets=_SECONDS, registry=self._registry
        )
        self._crops = Histogram(
            "posecov_batch_crops", "Crops in one call of the network", buckets=range(1, BATCH + 1), registry=self._registry
        )
        self._people = Counter("posecov_people", "Poses answered", registry=self._registry)

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request is over; ``route`` is one of few."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, crops: int) -> None:
        """The network has run on so many crops."""
        self._crops.observe(crops)

    def people(self, count: int) -> None:
        """So many poses were answered."""
        self._people.inc(count)

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """A number that is asked for when somebody looks."""
        Gauge(name, meaning, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)
