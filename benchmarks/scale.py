"""Many pictures: memory and rows of a job killed twice, Ray against the plain path, a plan against a run.

    python benchmarks/scale.py [PICTURES] [--model MODEL] [--rows 1000000] [--images 4000] [--rounds 3]

PICTURES is a folder of real pictures, scored as crops; without one, small synthetic ones. Everything is
written into runs/scale (`-o`), where no earlier run's may be. Three parts, each through the real command:

1. `--rows` names over those pictures (links, so that every name is another) are scored into a data set. The
   process is killed with SIGKILL when 30 % and 70 % of the parts are there, and goes on with --resume. Every
   row is counted and held against the score of its picture. The memory of the process and of its workers goes
   to memory.png and memory.csv.
2. `--images` of them in turns: one file of scores; a data set by processes; a data set by Ray, in this
   machine; each with 1 and 2 workers. Ratios are round by round.
3. `efiqa plan`, told rate and start by a run over `--images`, against one over four times as many.

Prints Markdown. `--parts 1,3` leaves one out.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet

from efiqa.records import parts_of
from efiqa.sources import pictures_in

EFIQA = [sys.executable, "-m", "efiqa"]
SIDE = 96
KILLS = (0.3, 0.7)


def synthetic(folder: Path, count: int) -> None:
    """JPEGs of noise, each blurred by another amount."""
    folder.mkdir(parents=True)
    for number in range(count):
        generator = np.random.default_rng(number)
        coarse = generator.integers(0, 256, (4 + number % 60, 4 + number % 60, 3), np.uint8)
        PIL.Image.fromarray(coarse).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC).save(
            folder / f"{number:05}.jpg", quality=85
        )


def links(folder: Path, pictures: list[Path], count: int) -> list[str]:
    """`count` names, a thousand a folder, each of one of the pictures in turn."""
    names = []
    for number, picture in zip(range(count), itertools.cycle(pictures)):
        if number % 1000 == 0:
            (folder / f"{number // 1000:05}").mkdir(parents=True)
        name = folder / f"{number // 1000:05}" / f"{number:09}.jpg"
        name.symlink_to(picture.resolve())
        names.append(str(name))
    return names


def listed(path: Path, names: list[str]) -> Path:
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def command(source: Path, output: str, options: list[str], *more: object) -> list[str]:
    words = ["score", str(source), "-o", output, "--faces", "none", "-q", *options, *map(str, more)]
    return [*EFIQA, *words]


def tree(root: int) -> list[int]:
    """A process and all below it."""
    below: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            cells = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(cells[1]), []).append(int(path.parent.name))
    found = [root]
    for each in found:
        found += below.get(each, [])
    return found


def memory_mb(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    line = next((line for line in text.splitlines() if line.startswith("VmRSS")), "VmRSS: 0 kB")
    return int(line.split()[1]) / 1024


def killed_twice(folder: Path, source: Path, options: list[str], shards: int) -> list[list[float]]:
    """Rows of seconds, MB of the process, MB of its workers, share of parts that are there."""
    output = folder / "million"
    begun, samples = time.monotonic(), []
    for kill in (*KILLS, None):
        words = command(source, f"{output}/", options, "--resume")
        with subprocess.Popen(words) as process:
            while process.poll() is None:
                share = len(list(output.glob("part-*"))) / shards
                own, *workers = [memory_mb(pid) for pid in tree(process.pid)]
                samples.append([time.monotonic() - begun, own, sum(workers), share])
                if kill is not None and share >= kill:
                    process.send_signal(signal.SIGKILL)
                time.sleep(0.5)
        print(f"ended with {process.returncode} at {samples[-1][3]:.1%} of the parts", flush=True)
        if process.returncode not in (0, -signal.SIGKILL):
            raise SystemExit("the job failed")
    return samples


def count_rows(output: Path, names: list[str], scores: dict[str, float | None], pictures: list[Path]) -> None:
    """Rows lost, doubled, out of place, and other than the picture's own score."""
    found: Counter[str] = Counter()
    wrong = number = misplaced = 0
    for part in parts_of(output):
        table = pyarrow.parquet.read_table(part, columns=["image", "score"]).to_pydict()
        for image, score in zip(table["image"], table["score"], strict=True):
            found[image] += 1
            misplaced += number >= len(names) or names[number] != image
            wrong += score != scores[str(pictures[number % len(pictures)])]
            number += 1
    lost = sum(name not in found for name in names)
    doubled = sum(count > 1 for count in found.values())
    print(
        f"\n{number:,} rows of {len(names):,} names: {lost} lost, {doubled} doubled, {misplaced} out of "
        f"place, {wrong} with another score than an undisturbed run gives that picture\n"
    )
    if number != len(names) or lost or doubled or misplaced or wrong:
        raise SystemExit("rows are wrong")


def plot(samples: list[list[float]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4))
    seconds, own, workers, share = (list(column) for column in zip(*samples, strict=True))
    axes.plot(seconds, own, label="the process")
    axes.plot(seconds, workers, label="its workers")
    axes.set(xlabel="seconds", ylabel="resident memory, MB", ylim=(0, None))
    axes.twinx().plot(seconds, [100 * each for each in share], ":", color="grey")
    axes.set_title("dotted: per cent of parts done; killed at 30 % and 70 %", fontsize=9)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def million(folder: Path, pictures: list[Path], options: list[str], rows: int, shard_size: int) -> None:
    print(f"## {rows:,} rows, killed at 30 % and 70 %\n", flush=True)
    begun = time.monotonic()
    names = links(folder / "links", pictures, rows)
    source = listed(folder / "names.txt", names)
    once = folder / "once.jsonl"
    subprocess.run(
        command(listed(folder / "once.txt", list(map(str, pictures))), str(once), options), check=True
    )
    scores = {row["image"]: row["score"] for row in map(json.loads, once.read_text().splitlines())}
    print(f"prepared in {time.monotonic() - begun:.0f} s", flush=True)
    sized = [*options, "--shard-size", str(shard_size)]
    samples = killed_twice(folder, source, sized, -(-rows // shard_size))
    with (folder / "memory.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["seconds", "process_mb", "workers_mb", "share"], *samples])
    plot(samples, folder / "memory.png")
    count_rows(folder / "million", names, scores, pictures)
    print("| resident memory, MB, median over | the process | its workers |\n|---|---|---|")
    for low, high in ((0.05, 0.25), (0.35, 0.65), (0.75, 0.95)):
        inside = [sample for sample in samples if low <= sample[3] <= high]
        if inside:
            own, workers = (statistics.median(sample[at] for sample in inside) for at in (1, 2))
            print(f"| {low:.0%} to {high:.0%} of the parts | {own:.0f} | {workers:.0f} |")
    print(f"\n{samples[-1][0]:.0f} s in all, starts included\n", flush=True)


def timed(words: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(words, check=True)
    return time.perf_counter() - begun


def steady(log: Path, workers: int) -> float:
    """Images/s once every worker has given its first part."""
    events = [json.loads(line) for line in log.read_text().splitlines()]
    parts = [event for event in events if event["event"] == "shard"]
    stamps = [datetime.fromisoformat(each["time"]).timestamp() for each in parts]
    return sum(each["rows"] for each in parts[workers:]) / (stamps[-1] - stamps[workers - 1])


def overhead(folder: Path, pictures: list[Path], options: list[str], images: int, rounds: int) -> None:
    print(f"## One file, processes, Ray: {images:,} images, {rounds} rounds in turns\n", flush=True)
    names = list(itertools.islice(itertools.cycle(map(str, pictures)), images))
    source = listed(folder / "overhead.txt", names)
    wall: dict[tuple[str, int], list[float]] = {}
    rate: dict[tuple[str, int], list[float]] = {}
    size = ["--shard-size", str(max(1, images // 40))]
    for number in range(rounds):
        for workers in (1, 2):
            for kind in ("one file", "processes", "Ray"):
                output, log = (
                    folder / f"{kind}-{workers}-{number}".replace(" ", "-"),
                    folder / f"{kind}.jsonl",
                )
                log.unlink(missing_ok=True)
                words = command(source, f"{output}.csv", options, "--workers", workers)
                if kind != "one file":
                    words = command(source, f"{output}/", options, *size, "--workers", 1)
                    words += ["--concurrency", str(workers), "--log", str(log)]
                    words += ["--ray", "local"] if kind == "Ray" else []
                wall.setdefault((kind, workers), []).append(timed(words))
                if kind != "one file":
                    rate.setdefault((kind, workers), []).append(steady(log, workers))
    print("| | workers | s, median (min to max) | images/s once started |\n|---|---|---|---|")

    def shown(values: list[float] | None) -> str:
        if not values:
            return "–"
        return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"

    for (kind, workers), values in wall.items():
        print(f"| {kind} | {workers} | {shown(values)} | {shown(rate.get((kind, workers)))} |")
    print("\n| ratio, round by round | 1 worker | 2 workers |\n|---|---|---|")
    for what, table in (("seconds", wall), ("images/s once started", rate)):
        for first, second in (("Ray", "processes"), ("Ray", "one file"), ("processes", "one file")):
            if (first, 1) in table and (second, 1) in table:
                both = (
                    [a / b for a, b in zip(table[first, workers], table[second, workers], strict=True)]
                    for workers in (1, 2)
                )
                cells = " | ".join(
                    f"{statistics.median(each):.3f} ({min(each):.3f} to {max(each):.3f})" for each in both
                )
                print(f"| {what}: {first} / {second} | {cells} |")
    for kind in ("processes", "Ray"):
        ratio = statistics.median(rate[kind, 2]) / statistics.median(rate[kind, 1])
        print(f"\n{kind}: two workers are {ratio:.2f} times one")
    print(flush=True)


def planned(folder: Path, pictures: list[Path], options: list[str], images: int) -> None:
    print("## A plan against a run\n", flush=True)
    took, log, long = {}, folder / "plan.jsonl", 4 * images
    for count in (images, long):
        names = list(itertools.islice(itertools.cycle(map(str, pictures)), count))
        source = listed(folder / f"plan-{count}.txt", names)
        words = command(source, f"{folder / f'plan-{count}'}/", options, "--shard-size", max(1, images // 20))
        took[count] = timed([*words, "--log", str(log)] if count == images else words)
    rate = steady(log, 1)
    start = max(0.0, took[images] - images / rate)
    words = ["plan", "-n", str(long), "--rate", str(rate), "--start", str(start), "--machines", "1", "--json"]
    words += ["--like", str(folder / f"plan-{images}")]
    (plan,) = json.loads(subprocess.run([*EFIQA, *words], check=True, capture_output=True).stdout)["plans"]
    said, was = 3600 * plan["hours"], took[long]
    written = sum(part.stat().st_size for part in parts_of(folder / f"plan-{long}"))
    print(f"from {images:,} images: {rate:.1f} images/s, {start:.1f} s to start\n")
    print(f"| {long:,} images | planned | measured | planned / measured |\n|---|---|---|---|")
    print(f"| seconds | {said:.1f} | {was:.1f} | {said / was:.3f} |")
    wrote = plan["written_gb"] * 1e9
    print(f"| bytes written | {wrote:,.0f} | {written:,} | {wrote / written:.3f} |\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", type=Path, nargs="?")
    parser.add_argument("--model", help="ONNX file, or the name of a model that ships; default: the student")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shard-size", type=int, default=1000)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default="1,2,3")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/scale"))
    arguments = parser.parse_args()
    if arguments.output.exists():
        parser.error(f"{arguments.output} is there already")
    folder = arguments.output
    folder.mkdir(parents=True)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    options = ["--model", arguments.model] if arguments.model else []
    source = arguments.pictures
    if source is None:
        source = folder / "pictures"
        synthetic(source, min(2000, arguments.rows))
    pictures = [Path(item.path) for item in pictures_in(str(source)) if item.error is None]
    print(f"{len(pictures):,} pictures, model {arguments.model or 'student'}, {os.cpu_count()} cores\n")
    parts = arguments.parts.split(",")
    if "1" in parts:
        million(folder, pictures, options, arguments.rows, arguments.shard_size)
        shutil.rmtree(folder / "links")
    if "2" in parts:
        overhead(folder, pictures, options, arguments.images, arguments.rounds)
    if "3" in parts:
        planned(folder, pictures, options, arguments.images)


if __name__ == "__main__":
    main()
