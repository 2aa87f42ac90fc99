"""A job over many shards seen from outside: rate, time left, JSON lines, and numbers for Prometheus."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from efiqa.engine import Outcome
from efiqa.errors import MissingExtra, OutputError
from efiqa.names import printable

TOLD_EVERY = 30.0
"""Seconds between lines where no terminal shows a bar."""
MEASURED_EVERY = 5.0
"""Seconds between writes of the numbers for Prometheus."""


class Watch:
    """Counts what a job comes to; `statuses` and `decisions` are rows, those of earlier runs too.

    `log` is appended to: JSON lines with `time`, `job`, and `event`: start, shard, again, failed, end.
    `metrics` is a file for the textfile collector of Prometheus' node exporter.

    Raises OutputError where they cannot be written, MissingExtra for metrics without prometheus-client.
    """

    def __init__(
        self,
        job: str,
        shards: int,
        finished: Iterable[dict[str, Any]],
        *,
        log: Path | None = None,
        metrics: Path | None = None,
    ) -> None:
        self.job, self.shards = job, shards
        self.statuses, self.decisions = Counter[str](), Counter[str]()
        self.done = self.failed = self.again = self.pictures = self._earlier = 0
        for record in finished:
            self._count(record)
        self._earlier = self.pictures
        self._before = self.done
        self._started = self._told = time.monotonic()
        self._measured = 0.0
        self._log: TextIO | None = None
        self._metrics = Numbers(metrics) if metrics else None
        self._open = ExitStack()
        if log is not None:
            try:
                log.parent.mkdir(parents=True, exist_ok=True)
                self._log = self._open.enter_context(log.open("a", encoding="utf-8"))
            except OSError as error:
                raise OutputError(
                    f"{printable(log)} cannot be written: {error.strerror or error}", hint="name another file"
                ) from error

    def __enter__(self) -> Watch:
        self._say("start", shards=self.shards, finished=self.done)
        try:
            self._measure()  # that it cannot be written is an error now
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        how = {} if kind is None else {"error": f"{kind.__name__}: {error}"}
        self._say("end", **self.numbers(), statuses=dict(self.statuses), **how)
        self._measure()
        self._open.close()

    def _count(self, record: dict[str, Any]) -> None:
        if "file" not in record:
            self.failed += 1
            return
        self.done += 1
        self.pictures += record["pictures"]
        self.statuses.update(record["statuses"])
        self.decisions.update(record.get("decisions", {}))

    def note(self, outcome: Outcome, record: dict[str, Any] | None) -> None:
        """An attempt, and what was kept of it; none where the task is tried again."""
        about = {"shard": outcome.task.number, "input": outcome.task.name, "attempt": outcome.attempt}
        about |= outcome.where
        if record is None:
            self.again += 1
            self._say("again", **about, reason=getattr(outcome.result, "reason", "a store was away"))
        else:
            self._count(record)
            kept = {name: record[name] for name in ("rows", "statuses", "digest", "error") if name in record}
            self._say("failed" if "error" in record else "shard", **about, **kept)
        if self._metrics and time.monotonic() - self._measured >= MEASURED_EVERY:
            self._measure()

    def numbers(self) -> dict[str, Any]:
        """What is done, and in this run how fast."""
        seconds = time.monotonic() - self._started
        return {
            "done": self.done,
            "failed": self.failed,
            "again": self.again,
            "left": self.shards - self.done - self.failed,
            "images": self.pictures,
            "seconds": round(seconds, 3),
            "images_per_s": round((self.pictures - self._earlier) / max(seconds, 1e-9), 3),
        }

    def said(self, *, left: bool = False) -> str:
        """One line; with `left` also how far the job is, which a bar shows."""
        now = self.numbers()
        troubles = f", {self.failed:,} shards failed" if self.failed else ""
        said = f"{self.pictures:,} images, {now['images_per_s']:,.0f} images/s{troubles}"
        if not left:
            return said
        shards = max(1, self.done - self._before + self.failed)
        time_left = timedelta(seconds=round(now["left"] * now["seconds"] / shards))
        return f"{self.done + self.failed:,} of {self.shards:,} shards, {said}, {time_left} left"

    def due(self) -> bool:
        """Whether it is time for another line."""
        if time.monotonic() - self._told < TOLD_EVERY:
            return False
        self._told = time.monotonic()
        return True

    def _say(self, event: str, **what: Any) -> None:
        if self._log is not None:
            said = {"time": datetime.now(UTC).isoformat(), "job": self.job, "event": event, **what}
            self._log.write(json.dumps(said, ensure_ascii=False) + "\n")
            self._log.flush()

    def _measure(self) -> None:
        if self._metrics:
            self._measured = time.monotonic()
            self._metrics.write(self.job, self.numbers(), self.statuses)


class Numbers:
    """A file of numbers that Prometheus' node exporter reads, whole at any time."""

    def __init__(self, path: Path) -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise MissingExtra("prometheus-client", extra="scale") from error
        self._client, self._path = prometheus_client, path

    def write(self, job: str, numbers: dict[str, Any], statuses: dict[str, int]) -> None:
        registry = self._client.CollectorRegistry()
        told = {
            "efiqa_job_shards": ("Shards of the job by state.", "state", ("done", "failed", "left")),
            "efiqa_job_attempts_again": ("Attempts that were not the last.", None, ("again",)),
            "efiqa_job_images": ("Pictures scored.", None, ("images",)),
            "efiqa_job_images_per_second": ("Pictures a second in this run.", None, ("images_per_s",)),
        }
        for name, (text, label, keys) in told.items():
            gauge = self._client.Gauge(name, text, ["job", *([label] if label else [])], registry=registry)
            for key in keys:
                gauge.labels(job, *([key] if label else [])).set(numbers[key])
        rows = self._client.Gauge("efiqa_job_rows", "Rows by status.", ["job", "status"], registry=registry)
        for status, count in statuses.items():
            rows.labels(job, status).set(count)
        try:
            self._client.write_to_textfile(str(self._path), registry)
        except OSError as error:
            raise OutputError(
                f"{printable(self._path)} cannot be written: {error.strerror or error}",
                hint="name a file in a folder that is there",
            ) from error
