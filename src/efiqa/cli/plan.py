"""efiqa plan."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efiqa.cli.terminal import plain, talk

if TYPE_CHECKING:
    from efiqa.capacity import Plan

ROWS = tuple(10**power for power in range(6, 11))


def plan(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[INPUT…]", help="Inputs as of score, to count; archives are read for that."),
    ] = None,
    images: Annotated[
        list[float] | None,
        typer.Option(
            "--images", "-n", help="How many there are; repeatable. Default: inputs, else 10⁶ to 10¹⁰."
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Images/s of one machine, measured on such pictures.")
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What efiqa bench --json printed there: rate and start."),
    ] = None,
    start: Annotated[float | None, typer.Option(help="Seconds before a machine's first picture.")] = None,
    machines: Annotated[int | None, typer.Option(help="How many there are; hours are worked out.")] = None,
    hours: Annotated[
        float | None, typer.Option(help="How long it may take; machines are worked out. Default: 24.")
    ] = None,
    efficiency: Annotated[
        float,
        typer.Option(help="Share of the rate that is left in a cluster, as benchmarks/scale.py measures."),
    ] = 1.0,
    image_bytes: Annotated[float | None, typer.Option(help="Bytes of a stored picture.")] = None,
    bandwidth: Annotated[
        float | None, typer.Option(help="Bytes/s that the store gives to all machines together.")
    ] = None,
    per_object: Annotated[int, typer.Option(help="Pictures in one object: 1, or those of a tar.")] = 1,
    shard_size: Annotated[int, typer.Option(help="As of score.")] = 1000,
    like: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER/", help="A data set that score wrote: how much its rows take."),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="currency, machine_hour, reads_1000, writes_1000, traffic_gb, storage_gb_month.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All numbers as JSON.")] = False,
) -> None:
    """Say what a job will take: machines, hours, money, storage.

    From a rate that you measured and prices that you were told; none are built in.

    `efiqa bench photos/ --json > bench.json; efiqa plan --bench bench.json --hours 24 --prices prices.toml`
    """
    from efiqa.capacity import Measured, Prices, from_bench
    from efiqa.capacity import plan as planned
    from efiqa.settings import from_table, read_toml

    if (rate is None) == (bench is None):
        raise typer.BadParameter("--rate or --bench FILE says how fast one machine is: one of them is needed")
    if machines is not None and hours is not None:
        raise typer.BadParameter("--machines and --hours: one of them is worked out from the other")
    if bench is not None:
        rate, begins = from_bench(_json(bench))
        start = begins if start is None else start
    assert rate is not None
    counts = [round(number) for number in images or ()] or ([_count(inputs)] if inputs else ROWS)
    measured = Measured(
        rate=rate,
        start=start or 0.0,
        efficiency=efficiency,
        image_bytes=image_bytes,
        row_bytes=None if like is None else _row_bytes(like),
        bandwidth=bandwidth,
        per_object=per_object,
        shard_size=shard_size,
    )
    asked = Prices() if prices is None else from_table(Prices, read_toml(prices, "price list"), "price list")
    if machines is None and hours is None:
        hours = 24.0
    plans = [planned(count, measured, asked, machines=machines, hours=hours) for count in counts]
    if as_json:
        about = {"measured": asdict(measured), "prices": asdict(asked)}
        print(json.dumps({**about, "plans": [asdict(each) for each in plans]}, indent=1))  # noqa: T201
        return
    print(_table(plans, asked.currency), end="")  # noqa: T201
    talk.print(
        plain(
            f"one machine: {measured.rate:g} images/s, {measured.start:g} s to start; "
            f"{measured.efficiency:g} of that in a cluster"
        ),
        highlight=False,
    )


def _table(plans: list[Plan], currency: str) -> str:
    """Markdown, as of bench: nothing is cut off where no terminal is."""
    unit = f" {currency}" if currency else ""
    titles = ("images", "machines", "hours", "limit", "read GB", "written GB")
    rows = [(*titles, f"cost{unit}", f"stored{unit}/month"), ("---",) * 8]

    def shown(value: float | None, digits: int) -> str:
        return "?" if value is None else f"{value:,.{digits}f}"

    for each in plans:
        sizes = shown(each.read_gb, 1), shown(each.written_gb, 3)
        costs = shown(each.cost, 2), shown(each.storage_month, 2)
        rows.append(
            (f"{each.images:,}", f"{each.machines:,}", shown(each.hours, 2), each.limit, *sizes, *costs)
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _json(path: Path) -> Any:
    from efiqa.errors import RecordError

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read as JSON: {error}") from error


def _count(inputs: list[str]) -> int:
    from efiqa.sources import expand

    return sum(1 for _ in expand(inputs, sys.stdin.buffer if sys.stdin else None))


def _row_bytes(folder: Path) -> float:
    """Bytes of the parts for each picture."""
    from efiqa.records import shards_of

    records = shards_of(folder)
    size, pictures = (sum(int(each[name]) for each in records) for name in ("bytes", "pictures"))
    return size / max(1, pictures)
