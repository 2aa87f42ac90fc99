"""What a service counts, for Prometheus: requests, pictures, faces, times; nothing of any picture."""

from __future__ import annotations

import os
from collections.abc import Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from efiqa.records import Prediction

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which several processes keep their numbers, so that each can show those of all."""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "efiqa_requests", "Requests answered.", ("route", "method", "status"), registry=registry
        )
        self.seconds = Histogram(
            "efiqa_request_seconds", "From headers to answer.", ("route",), registry=registry, buckets=SECONDS
        )
        self.images = Counter("efiqa_images", "Pictures worked on.", ("status",), registry=registry)
        self.faces = Counter("efiqa_faces", "Faces scored.", registry=registry)
        self.decisions = Counter(
            "efiqa_decisions", "Decisions under the policy.", ("decision",), registry=registry
        )
        self.image_seconds = Histogram(
            "efiqa_image_seconds", "Work on one picture.", registry=registry, buckets=SECONDS
        )
        self.waiting = Gauge(
            "efiqa_images_waiting",
            "Pictures that wait or are worked on.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        if SHARED in os.environ:
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]
        else:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        self.requests.labels(route, method, status).inc()
        self.seconds.labels(route).observe(seconds)

    def worked(self, rows: Sequence[Prediction], seconds: float) -> None:
        self.images.labels(rows[0].status).inc()
        self.faces.inc(sum(row.status == "ok" for row in rows))
        for row in rows:
            if row.decision:
                self.decisions.labels(row.decision).inc()
        self.image_seconds.observe(seconds)

    def exposition(self) -> bytes:
        return generate_latest(self._registry)
