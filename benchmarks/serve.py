"""Requests/s of `efiqa serve` against the plain Scorer in the same run, latencies, memory, and its limit.

    python benchmarks/serve.py [--model student] [--rounds 5] [--seconds 20] [--requests 50000] [-- OPTIONS]

OPTIONS are those of `efiqa serve`.

JPEGs of 512 px, of synthetic texture, go as multipart bodies over real connections of this machine, kept
open, to a service in a process of its own. The sides take turns: `Scorer.predict_many` on the same bytes
(decoding included), then 1, 8 and 64 clients, each of which sends its next request when it has its answer.
Then `--requests` requests of 64 clients, with the service's memory on the way, and at last as many clients
with a queue of 8.

The clients are threads of one process that writes requests made beforehand and reads answers; what it used
of a core is printed. It shares the cores with the service, and what it takes counts against the service. CPU
times say more than rates where the machine does other work as well.

Ends with 1 where a request under the limit got another answer than 200, or one above it than 200 and 429.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import multiprocessing
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from efiqa.bench import synthetic
from efiqa.scorer import Scorer

CLIENTS = (1, 8, 64)
PICTURES = 64
LOST = 0
"""Stands for the status of a request whose connection broke."""


@dataclass(frozen=True)
class Load:
    """What clients saw: requests/s, latencies in ms, answers by status; cores that they used themselves, and
    CPU ms that the service took for a request."""

    rate: float
    latencies_ms: list[float]
    statuses: dict[int, int]
    cores: float
    service_cpu_ms: float = float("nan")

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.latencies_ms, n=100, method="inclusive")[percent - 1]


def multipart(picture: bytes) -> bytes:
    """A whole request, head and body."""
    body = b'--X\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n'
    body += b"Content-Type: image/jpeg\r\n\r\n" + picture + b"\r\n--X--\r\n"
    head = b"POST /v1/score?faces=none HTTP/1.1\r\nHost: localhost\r\n"
    head += b"Content-Type: multipart/form-data; boundary=X\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def ask(connection: socket.socket, request: bytes) -> int:
    """The status of the answer, once all of it is there. Raises OSError where the connection breaks."""
    connection.sendall(request)
    data, whole = b"", None
    while whole is None or len(data) < whole:
        part = connection.recv(65536)
        if not part:
            raise ConnectionError("closed without an answer")
        data += part
        end = data.find(b"\r\n\r\n")
        if whole is None and end >= 0:
            found = re.search(rb"(?i)content-length: (\d+)", data[:end])
            whole = end + 4 + int(found[1]) if found else end + 4
    return int(data[9:12])


def clients(address: tuple[str, int], requests: list[bytes], count: int, seconds: float, most: int) -> Load:
    """`count` clients, for so many seconds or requests, whatever comes first; in a process of its own."""
    tickets = itertools.count()
    started, used = time.perf_counter(), time.process_time()
    until = started + seconds
    seen: list[tuple[float, int]] = []

    def client() -> None:
        connection = None
        while time.perf_counter() < until and (ticket := next(tickets)) < most:
            begun = time.perf_counter()
            try:
                if connection is None:
                    connection = socket.create_connection(address, timeout=120)
                    # As HTTP clients do: or the end of a request waits until its start is acknowledged.
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                status = ask(connection, requests[ticket % len(requests)])
            except OSError:
                connection, status = None, LOST
            seen.append((1000 * (time.perf_counter() - begun), status))
        if connection is not None:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    latencies = [latency for latency, _ in seen]
    counts = dict(Counter(status for _, status in seen))
    return Load(len(seen) / took, latencies, counts, (time.process_time() - used) / took)


class Service(NamedTuple):
    pid: int
    address: tuple[str, int]


@contextmanager
def service(*options: str) -> Iterator[Service]:
    """`efiqa serve` with these options."""
    command = [sys.executable, "-m", "efiqa", "serve", "--port", "0", "-q", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"serves at http://([\d.]+):(\d+)", line):
                break
            print(line, end="", file=sys.stderr)
        else:
            sys.exit("the service did not start")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield Service(process.pid, (found[1], int(found[2])))
        finally:
            process.send_signal(signal.SIGINT)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in listed.split()]


def memory_mb(pid: int) -> float:
    """Resident memory of a process and of those it started."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    own = int(status.split("VmRSS:")[1].split()[0]) / 1024
    return own + sum(memory_mb(child) for child in children(pid))


def cpu_s(pid: int) -> float:
    """CPU time of a process and of those it started."""
    user, system = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[11:13]
    own = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_s(child) for child in children(pid))


def scorer_rate(scorer: Scorer, pictures: list[bytes], seconds: float) -> tuple[float, float]:
    """Pictures/s of the Scorer, all its workers busy, and CPU ms a picture."""
    until = time.perf_counter() + seconds
    source = itertools.takewhile(lambda _: time.perf_counter() < until, itertools.cycle(pictures))
    started, used = time.perf_counter(), time.process_time()
    count = sum(1 for _ in scorer.predict_many(source, faces="none"))
    return count / (time.perf_counter() - started), 1000 * (time.process_time() - used) / count


Generate = Callable[..., Load]


def compare(generate: Generate, scorer: Scorer, pictures: list[bytes], rounds: int, seconds: float) -> bool:
    """The table of both sides; whether every answer was 200."""
    plain: list[tuple[float, float]] = []
    seen: dict[int, list[Load]] = {count: [] for count in CLIENTS}
    for _ in range(rounds):
        plain.append(scorer_rate(scorer, pictures, seconds))
        for count in CLIENTS:
            seen[count].append(generate(count, seconds))
    rates, cpu = zip(*plain, strict=True)
    print(f"\nMedians of {rounds} rounds of {seconds:g} s:\n")
    print("| | a second | of the Scorer's | CPU ms | p50, p95, p99, ms | answers | cores of the clients |")
    print("|---|---|---|---|---|---|---|")
    name = f"Scorer, {scorer.workers} workers"
    print(f"| {name} | {statistics.median(rates):.1f} | 100 % | {statistics.median(cpu):.1f} | | | |")
    for count, loads in seen.items():
        shares = [100 * load.rate / rate for load, rate in zip(loads, rates, strict=True)]
        times = [statistics.median(load.percentile(percent) for load in loads) for percent in (50, 95, 99)]
        print(
            f"| {count} clients | {statistics.median(load.rate for load in loads):.1f} "
            f"| {statistics.median(shares):.1f} % ({min(shares):.1f} to {max(shares):.1f}) "
            f"| {statistics.median(load.service_cpu_ms for load in loads):.1f} "
            f"| {', '.join(f'{time_ms:.1f}' for time_ms in times)} "
            f"| {answers(loads)} | {statistics.median(load.cores for load in loads):.3f} |"
        )
    return all(set(load.statuses) == {200} for loads in seen.values() for load in loads)


def answers(loads: list[Load]) -> str:
    counts = sum((Counter(load.statuses) for load in loads), Counter[int]())
    return ", ".join(f"{count:,} × {status or 'lost'}" for status, count in sorted(counts.items()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="student", help="ONNX file, or the name of a model that ships")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20, help="of each side of a round")
    parser.add_argument("--requests", type=int, default=50_000, help="over which memory is watched")
    parser.add_argument("options", nargs="*", help="options of efiqa serve, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        synthetic(Path(folder), PICTURES)
        pictures = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    requests = [multipart(picture) for picture in pictures]
    scorer, options = Scorer(arguments.model), ["--model", arguments.model, *arguments.options]
    size = sum(map(len, pictures)) // PICTURES
    print(f"{scorer.card.source} in {scorer.opened.runtime}; {PICTURES} JPEGs of {size:,} bytes")
    with multiprocessing.get_context("spawn").Pool(1) as pool:

        def load(at: Service, count: int, seconds: float, most: int = sys.maxsize) -> Load:
            before = cpu_s(at.pid)
            seen = pool.apply(clients, (at.address, requests, count, seconds, most))
            used_ms = 1000 * (cpu_s(at.pid) - before)
            return replace(seen, service_cpu_ms=used_ms / len(seen.latencies_ms))

        with service(*options) as at:
            load(at, max(CLIENTS), 3)  # warm
            scorer_rate(scorer, pictures, 3)
            generate = functools.partial(load, at)
            fine = compare(generate, scorer, pictures, arguments.rounds, arguments.seconds)
            print("\n| requests before | memory, MB |\n|---|---|")
            step = max(1, arguments.requests // 10)
            for number in range(0, arguments.requests + 1, step):
                print(f"| {number:,} | {memory_mb(at.pid):.1f} |", flush=True)
                if number < arguments.requests:
                    fine &= set(load(at, max(CLIENTS), 3600, step).statuses) == {200}
        with service("--queue", "8", *options) as at:
            above = load(at, max(CLIENTS), arguments.seconds)
    print(f"\n{max(CLIENTS)} clients, a queue of 8: {answers([above])}")
    if not fine or set(above.statuses) != {200, 429}:
        sys.exit("there was an answer that should not be")


if __name__ == "__main__":
    main()
