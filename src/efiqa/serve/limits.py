"""How much one client, and all of them together, may ask of a service."""

from __future__ import annotations

from dataclasses import dataclass, fields

from efiqa.errors import InvalidArgument

MIN_RATE = 16 * 1024
"""Bytes a second. A body may take `read_timeout` and, beyond that, as long as it would take at this rate."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one process; each is at least 1.

    `body` is bytes of one request, `held` bytes of all bodies that are in memory at a time, `images` pictures
    of one request, `queue` pictures that wait for a worker, `connections` open at a time. `read_timeout` and
    `timeout` are seconds: for headers and body to come, and for pictures to wait until their work begins.

    Pixels and faces of one picture are limits of the Scorer.
    """

    body: int = 32 << 20
    held: int = 256 << 20
    images: int = 16
    queue: int = 64
    connections: int = 500
    read_timeout: float = 10
    timeout: float = 30

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 1 <= value < float("inf"):
                raise InvalidArgument(f"{field.name} must be at least 1, but got {value}")
        if self.held < self.body:
            raise InvalidArgument(
                f"all bodies together must have at least the limit of one, {self.body:,} bytes, "
                f"but got {self.held:,}"
            )
