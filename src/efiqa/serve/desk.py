"""The desk: pictures wait here for a worker, within a limit of number and time, and leave with their rows.

One picture is one run of the network. Batches of several clients' pictures were measured and gain nothing
on a processor (docs/serve.md), and a picture's score would know its neighbours.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from efiqa.records import Prediction
from efiqa.scorer import Faces, Scorer
from efiqa.serve.limits import Limits
from efiqa.serve.metrics import Metrics
from efiqa.serve.problems import Problem


class ClientGone(Exception):
    """Nobody waits for this answer any more."""


class Desk:
    def __init__(self, workers: int, limits: Limits, metrics: Metrics) -> None:
        self.workers, self.limits, self.metrics = workers, limits, metrics
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="efiqa")
        self._lock = threading.Lock()
        self._admitted = 0
        self._mean_s = 0.05
        """Seconds a picture takes, a moving mean: what Retry-After is reckoned from."""

    def check_room(self, pictures: int = 1) -> None:
        """Raise the Problem of status 429 where so many more pictures could not wait."""
        if self._admitted + pictures > self.workers + self.limits.queue:
            raise self._busy(f"{self.limits.queue:,} pictures wait already")

    async def predict(
        self, scorer: Scorer, pictures: Sequence[bytes], faces: Faces, gone: Awaitable[None]
    ) -> list[list[Prediction]]:
        """The rows of each picture, in order. What has not begun is given up when the client is `gone`.

        Raises ClientGone then, Problem 429 where there is no room or a picture waited for too long.
        """
        self.check_room(len(pictures))
        work = [self._submit(scorer, picture, faces) for picture in pictures]
        rows = asyncio.gather(*map(asyncio.wrap_future, work), return_exceptions=True)
        leaving = asyncio.ensure_future(gone)
        try:
            await asyncio.wait(
                (rows, leaving), timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED
            )
            given_up = [future.cancel() for future in work]  # true of those that have not begun
            if any(given_up):
                if leaving.done():
                    raise ClientGone
                raise self._busy(f"the work did not begin within {self.limits.timeout:g} s")
            return [_or_raise(found) for found in await rows]
        finally:
            leaving.cancel()
            for future in work:  # this request may itself have been cancelled
                future.cancel()

    def _submit(self, scorer: Scorer, picture: bytes, faces: Faces) -> Future[list[Prediction]]:
        with self._lock:
            self._admitted += 1
        self.metrics.waiting.inc()
        future = self._pool.submit(self._work, scorer, picture, faces)
        future.add_done_callback(self._left)
        return future

    def _left(self, _: object) -> None:
        with self._lock:
            self._admitted -= 1
        self.metrics.waiting.dec()

    def _work(self, scorer: Scorer, picture: bytes, faces: Faces) -> list[Prediction]:
        started = time.perf_counter()
        rows = scorer.predict(picture, faces=faces)
        seconds = time.perf_counter() - started
        self._mean_s += 0.1 * (seconds - self._mean_s)
        self.metrics.worked(rows, seconds)
        return rows

    def _busy(self, message: str) -> Problem:
        wait = math.ceil(self._admitted * self._mean_s / self.workers)
        return Problem(
            429, "busy", message, "send again after Retry-After seconds", {"Retry-After": str(max(1, wait))}
        )

    def close(self) -> None:
        self._pool.shutdown()


def _or_raise(found: list[Prediction] | BaseException) -> list[Prediction]:
    if isinstance(found, BaseException):
        raise found
    return found
