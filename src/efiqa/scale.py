"""Workers in a Ray cluster: each an actor with one Scorer; the only module that knows Ray.

Ray gives actors their places, takes back those of nodes that are gone, and grows the cluster where more are
wanted than there is room for. What is done again, and what is written, is decided in efiqa.engine and
efiqa.dataset, as on one machine.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from efiqa.errors import MissingExtra, WorkerError
from efiqa.tasks import Work
from efiqa.workers import Failed, Setup, Worker, WorkerDied

FILES = ("model", "detector")
"""Options of Scorer that may be the path of a file, which other machines do not have."""


class Cluster:
    """Workers as actors, `cores` CPU cores each.

    `address` is that of a cluster (`host:port`, `ray://host:port`), `local` for one that lives in this
    machine as long as this process, `auto` for $RAY_ADDRESS, else one that runs here, else `local`.

    Raises MissingExtra without Ray, WorkerError where the cluster cannot be reached.
    """

    def __init__(self, setup: Setup, *, address: str = "auto", cores: int = 1) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody asked for that connection
        try:
            import ray
        except ImportError as error:
            raise MissingExtra("ray", extra="scale") from error
        self._ray: Any = ray
        self._cores = cores
        address = _running() if address == "auto" else address
        options: dict[str, Any] = {"address": address, "logging_level": logging.ERROR, "log_to_driver": False}
        if address == "local":
            options["include_dashboard"] = False
        try:
            _knock(address)
            ray.init(**options)
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise WorkerError(
                f"there is no Ray cluster at {address}: {reason}",
                hint="ray start --head starts one; --ray local needs none",
            ) from error
        self._actor: Any = ray.remote(_Actor)
        self._setup = ray.put(setup)
        self._files = ray.put({name: _content(setup.options.get(name)) for name in FILES})

    @property
    def room(self) -> int:
        """How many workers the cluster has cores for now; at least one."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 0)) // self._cores)

    def start(self) -> tuple[Any, Any]:
        worker = self._actor.options(num_cpus=self._cores).remote(self._setup, self._files)
        return worker, worker.ready.remote()

    def submit(self, worker: Any, work: Work, careful: bool) -> Any:
        return worker.score.remote(work, careful)

    def wait(self, tickets: Sequence[Any], seconds: float | None) -> Sequence[Any]:
        done: list[Any] = self._ray.wait(list(tickets), num_returns=1, timeout=seconds)[0]
        return done

    def result(self, ticket: Any) -> Any:
        try:
            return self._ray.get(ticket)
        except self._ray.exceptions.RayTaskError as error:  # the task's code, not its process
            return Failed(f"{type(error.cause).__name__}: {error.cause}")
        except self._ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())
            raise WorkerDied(f"died: {reason[:300]}") from error

    def stop(self, worker: Any) -> None:
        self._ray.kill(worker)

    def close(self) -> None:
        self._ray.shutdown()


class _Actor(Worker):
    """A Worker that brings the files of its options along, and looks for pictures where the command does."""

    def __init__(self, setup: Setup, files: dict[str, bytes | None]) -> None:
        with suppress(OSError):  # a machine without that folder reads from stores only
            os.chdir(setup.folder)
        self._folder = tempfile.TemporaryDirectory(prefix="efiqa-")
        options = dict(setup.options)
        for name, data in files.items():
            if data is not None:
                path = Path(self._folder.name, Path(options[name]).name)
                path.write_bytes(data)
                options[name] = str(path)
        super().__init__(replace(setup, options=options))


def _content(option: object) -> bytes | None:
    path = Path(str(option)) if option is not None else None
    return path.read_bytes() if path is not None and path.is_file() else None


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at host:port: Ray would try for minutes."""
    found = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
    if found:
        socket.create_connection((found[1], int(found[2])), timeout=10).close()


def _running() -> str:
    """What `auto` means: $RAY_ADDRESS, the cluster that runs on this machine, as Ray notes it, or `local`."""
    if "RAY_ADDRESS" in os.environ:
        return os.environ["RAY_ADDRESS"]
    try:
        address = Path(tempfile.gettempdir(), "ray", "ray_current_cluster").read_text().strip()
        _knock(address)
    except OSError:  # there was none, or it is gone
        return "local"
    return address
