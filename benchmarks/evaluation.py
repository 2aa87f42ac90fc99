"""Time and memory of `efiqa evaluate`'s parts over a million synthetic ratings and predictions.

    python benchmarks/evaluation.py [--rows 1000000] [--scorers 1] [--pairs 1000000]

Files are written first, and the command is run on them in a process of its own. Then its parts are
measured, with one thread: files are read and matched, every metric is measured and resampled, and the report
is written, with its page. After them groups are compared, and error versus discard is measured over the
pairs. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from efiqa.entrants import distinct, enter
from efiqa.evaluate import evaluate
from efiqa.groups import compare_groups
from efiqa.pictures import Pictures
from efiqa.recognition import recognise
from efiqa.records import read_manifest
from efiqa.report import write_report
from efiqa.scores import read_scores
from efiqa.tables import uncollected

T = TypeVar("T")


def write(folder: Path, rows: int, scorers: int) -> tuple[Path, list[Path]]:
    generator = np.random.default_rng(0)
    rating = np.round(generator.beta(3, 2, rows), 4)
    manifest = folder / "manifest.csv"
    with manifest.open("w") as file:
        file.write("image,score,split,source,group\n")
        file.writelines(f"p/{i // 1000}/{i}.jpg,{at},test,human,\n" for i, at in enumerate(rating.tolist()))
    tables = []
    for number in range(scorers):
        scores = np.round(rating + (0.1 + 0.02 * number) * generator.standard_normal(rows), 5)
        tables.append(folder / f"scorer{number}.csv")
        with tables[-1].open("w") as file:
            file.write("image,face,status,score\n")
            file.writelines(f"p/{i // 1000}/{i}.jpg,0,ok,{at}\n" for i, at in enumerate(scores.tolist()))
    return manifest, tables


def command(manifest: Path, tables: list[Path], folder: Path) -> tuple[float, float, float]:
    """Seconds by the clock and of processors that `efiqa evaluate` takes, and its memory in ru_maxrss."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "efiqa", "evaluate", manifest, *tables, "-o", folder],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"efiqa evaluate ended with {process.returncode}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss


@uncollected()  # as the command is
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--scorers", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    arguments = parser.parse_args()
    unit = 1024**2 if sys.platform == "darwin" else 1024
    lines = []

    def timed(what: str, work: Callable[[], T]) -> T:
        started, cpu = time.perf_counter(), time.process_time()
        result = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
        seconds = time.perf_counter() - started
        lines.append((what, seconds, time.process_time() - cpu, peak))
        return result

    with tempfile.TemporaryDirectory() as text:
        manifest, tables = write(Path(text), arguments.rows, arguments.scorers)
        wall, used, memory = command(manifest, tables, Path(text) / "command")
        lines.append(("**efiqa evaluate**", wall, used, memory / unit))
        rows = timed("read the manifest", lambda: distinct(read_manifest(manifest))[0])
        pictures = timed("look up pictures", lambda: Pictures([row.image for row in rows]))
        entrants = [
            timed(
                f"read and match {table.stem}",
                lambda: enter(read_scores(table, name=table.stem), pictures),  # noqa: B023
            )
            for table in tables
        ]
        found = timed("all metrics, 1,000 resamples", lambda: evaluate(rows, entrants))
        timed("report.json, report.md, report.html", lambda: write_report(found, Path(text) / "report"))
    parts = lines[1:]
    group = [str(number % 10) for number in range(arguments.rows)]
    timed("groups: 10 of them", lambda: compare_groups(entrants[0].score, group))
    generator = np.random.default_rng(1)
    quality = generator.uniform(0, 1, arguments.pairs)
    genuine = np.arange(arguments.pairs) % 2 == 0
    similarity = genuine * quality + 0.3 * generator.standard_normal(arguments.pairs)
    person = np.arange(arguments.pairs) // 20
    timed(
        "recognition: error versus discard",
        lambda: recognise({"quality": quality}, genuine, similarity, person=person, fmr=1e-3),
    )
    print("| part | seconds | of one core | peak memory, MB |")
    print("|---|---|---|---|")
    total = [sum(part[column] for part in parts) for column in (1, 2)]
    lines.insert(1 + len(parts), ("**from files to report**", *total, parts[-1][3]))
    for what, seconds, cpu, peak in lines:
        print(f"| {what} | {seconds:.1f} | {cpu:.1f} | {peak:.0f} |")
    print(f"\n{arguments.rows:,} rows, {arguments.scorers} scorers, {arguments.pairs:,} pairs")
    for name, one in found.agreement.items():
        print(name, {metric: round(each.value, 4) for metric, each in one.metrics.items()})


if __name__ == "__main__":
    main()
