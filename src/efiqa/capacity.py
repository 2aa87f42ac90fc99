"""What a job will take: machines, hours, money and storage, from a measured rate. Arithmetic, and no more.

    hours    = (start + max(images / (machines · rate · efficiency), images · bytes / bandwidth)) / 3600
    machines = the fewest with which the first term above stays within the hours that there are

Every number that goes in is the user's: what was measured on their pictures, and what their provider asks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from efiqa.errors import InvalidArgument
from efiqa.stores import BLOCK

GB = 1e9
"""Bytes, as providers count."""
MONTH = 30 * 24
"""Hours, as providers count."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of one machine, the pictures and the store.

    `rate` is images/s of one machine, all its cores busy; `start` seconds before its first picture;
    `efficiency` the share of the rate that is left when many work together. `image_bytes` is a stored
    picture, `row_bytes` what its rows take in the data set, both none where nobody knows. `bandwidth` is
    bytes/s that the store, or the network to it, gives to all machines together, none for no known limit.
    `per_object` pictures lie in one object (a tar shard), and `shard_size` in one part of the output.
    """

    rate: float
    start: float = 0.0
    efficiency: float = 1.0
    image_bytes: float | None = None
    row_bytes: float | None = None
    bandwidth: float | None = None
    per_object: int = 1
    shard_size: int = 1000

    def __post_init__(self) -> None:
        for name in (
            "rate",
            "efficiency",
            "image_bytes",
            "row_bytes",
            "bandwidth",
            "per_object",
            "shard_size",
        ):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidArgument(f"{name} must be more than 0, but got {value}")
        if not (math.isfinite(self.start) and self.start >= 0):
            raise InvalidArgument(f"start must be 0 or more, but got {self.start}")
        if self.efficiency > 1:
            raise InvalidArgument(f"efficiency is a share, at most 1, but got {self.efficiency}")
        if self.bandwidth is not None and self.image_bytes is None:
            raise InvalidArgument("a bandwidth says nothing without image_bytes: how much is read")


@dataclass(frozen=True, slots=True)
class Prices:
    """What a provider asks, in any currency; what is not named costs nothing."""

    currency: str = ""
    machine_hour: float = 0.0
    reads_1000: float = 0.0
    writes_1000: float = 0.0
    traffic_gb: float = 0.0
    storage_gb_month: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if name != "currency" and not (math.isfinite(value) and value >= 0):
                raise InvalidArgument(f"{name} must be 0 or more, but got {value}")


@dataclass(frozen=True, slots=True)
class Plan:
    """`limit` is what the time is spent on. Sizes are none where those of a picture or row are unknown."""

    images: int
    machines: int
    hours: float
    limit: Literal["machines", "store"]
    read_gb: float | None
    written_gb: float | None
    reads: int
    writes: int
    cost: float
    storage_month: float


def plan(
    images: int,
    measured: Measured,
    prices: Prices = Prices(),
    *,
    machines: int | None = None,
    hours: float | None = None,
) -> Plan:
    """For so many machines, or for as few as are done in so many hours.

    Raises InvalidArgument for none or both of them, and where no number of machines is enough.
    """
    if images < 1:
        raise InvalidArgument(f"images must be at least 1, but got {images}")
    if (machines is None) == (hours is None):
        raise InvalidArgument("either machines or hours must be given", hint="the other one is worked out")
    rate = measured.rate * measured.efficiency
    read = None if measured.image_bytes is None else images * measured.image_bytes
    fetching = 0.0 if measured.bandwidth is None or read is None else read / measured.bandwidth
    if hours is not None:
        left = 3600 * hours - measured.start
        if left <= 0 or fetching > left:
            why = (
                "they would still be starting" if left <= 0 else "the store cannot give the pictures so fast"
            )
            raise InvalidArgument(f"no number of machines scores {images:,} images in {hours:g} h: {why}")
        machines = max(1, math.ceil(images / (rate * left) - 1e-9))
    assert machines is not None
    if machines < 1:
        raise InvalidArgument(f"machines must be at least 1, but got {machines}")
    scoring = images / (machines * rate)
    took = (measured.start + max(scoring, fetching)) / 3600
    objects = math.ceil(images / measured.per_object)
    blocks = max(1, math.ceil(measured.per_object * (measured.image_bytes or 0) / BLOCK))
    reads, writes = objects * blocks, math.ceil(images / max(measured.shard_size, measured.per_object))
    written = None if measured.row_bytes is None else images * measured.row_bytes / GB
    read_gb = None if read is None else read / GB
    cost = (
        machines * took * prices.machine_hour
        + reads / 1000 * prices.reads_1000
        + writes / 1000 * prices.writes_1000
        + (read_gb or 0) * prices.traffic_gb
    )
    storage = (written or 0) * prices.storage_gb_month
    limit: Literal["machines", "store"] = "machines" if scoring >= fetching else "store"
    return Plan(images, machines, took, limit, read_gb, written, reads, writes, cost, storage)


def from_bench(results: Any) -> tuple[float, float]:
    """Rate and start of the first entrant in what `efiqa bench --json` printed.

    Raises InvalidArgument for anything else.
    """
    try:
        first = results["results"][0]
        return float(first["images_per_s"]["median"]), float((first["start_s"] or {"median": 0.0})["median"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InvalidArgument(
            "this is not what efiqa bench --json prints: it has no rate",
            hint="efiqa bench photos/ --json > bench.json",
        ) from error
