"""A plan is arithmetic that can be done in the head, and every number in it came from the user."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from efiqa.capacity import Measured, Plan, Prices, from_bench, plan
from efiqa.errors import InvalidArgument


def test_hours_of_machines_and_machines_for_hours():
    measured = Measured(rate=100.0, start=36.0)
    assert plan(3_600_000, measured, machines=10) == Plan(
        3_600_000, 10, 1.01, "machines", None, None, 3_600_000, 3600, 0.0, 0.0
    )
    assert plan(3_600_000, measured, hours=1.01).machines == 10
    assert plan(3_600_000, measured, hours=1.0).machines == 11
    assert plan(1, measured, hours=1).machines == 1
    assert plan(3_600_000, Measured(rate=100.0, efficiency=0.5), machines=10).hours == 2.0


def test_a_store_that_is_slower_than_the_machines_is_the_limit():
    measured = Measured(rate=100.0, image_bytes=1e5, bandwidth=5e7)  # 500 images/s
    slow = plan(1_800_000, measured, machines=10)
    assert (slow.hours, slow.limit, slow.read_gb) == (1.0, "store", 180.0)
    assert plan(1_800_000, measured, machines=4).limit == "machines"
    with pytest.raises(InvalidArgument, match="the store cannot give the pictures so fast"):
        plan(1_800_000, measured, hours=0.5)


def test_money_is_hours_requests_traffic_and_storage():
    measured = Measured(
        rate=100.0, image_bytes=1e5, row_bytes=50, per_object=1000, shard_size=10
    )  # 100 MB in a tar: 12 reads of 8 MiB, one part
    prices = Prices("EUR", machine_hour=2, reads_1000=1, writes_1000=10, traffic_gb=0.5, storage_gb_month=4)
    found = plan(3_600_000, measured, prices, machines=10)
    assert (found.reads, found.writes) == (3600 * 12, 3600)
    assert (found.read_gb, found.written_gb) == (360.0, 0.18)
    assert found.cost == pytest.approx(10 * 1 * 2 + 43.2 + 36 + 180)
    assert found.storage_month == pytest.approx(0.72)


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: Measured(rate=0), "rate must be more than 0"),
    (lambda: Measured(rate=float("nan")), "rate must be more than 0"),
    (lambda: Measured(rate=1, start=-1), "start must be 0 or more"),
    (lambda: Measured(rate=1, efficiency=1.1), "at most 1"),
    (lambda: Measured(rate=1, bandwidth=1), "without image_bytes"),
    (lambda: Prices(machine_hour=-1), "machine_hour must be 0 or more"),
    (lambda: plan(0, Measured(rate=1), machines=1), "images must be at least 1"),
    (lambda: plan(1, Measured(rate=1)), "either machines or hours"),
    (lambda: plan(1, Measured(rate=1), machines=1, hours=1), "either machines or hours"),
    (lambda: plan(1, Measured(rate=1), machines=0), "machines must be at least 1"),
    (lambda: plan(1, Measured(rate=1, start=7200), hours=1), "still be starting"),
    (lambda: from_bench({"results": []}), "not what efiqa bench --json prints"),
    (lambda: from_bench([1]), "not what efiqa bench --json prints"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[case[1] for case in BAD])
def test_what_cannot_be_planned_is_an_error(call: Callable[[], object], message: str):
    with pytest.raises(InvalidArgument, match=message):
        call()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_command_plans_from_a_bench_a_data_set_and_a_price_list(command: Callable[..., Any]):
    bench = {"results": [{"images_per_s": {"median": 50.0}, "start_s": {"median": 18.0}}]}
    Path("bench.json").write_text(json.dumps(bench))
    Path("prices.toml").write_text('currency = "EUR"\nmachine_hour = 3\n')
    Path("like").mkdir()
    Path("like/_shards.jsonl").write_text('{"shard": 0, "file": "p", "bytes": 4000, "pictures": 100}\n')
    words = ["plan", "--bench", "bench.json", "--prices", "prices.toml", "--like", "like"]
    made = command(*words, "-n", "180000", "--machines", 2, "--json")
    assert made.code == 0
    (found,) = json.loads(made.out)["plans"]
    assert [found[name] for name in ("hours", "cost", "written_gb")] == pytest.approx([0.505, 3.03, 0.0072])
    table = command(*words)
    assert table.code == 0
    assert [count in table.out for count in ("1,000,000", "10,000,000,000")] == [True, True]
    assert "50 images/s, 18 s to start" in table.err


def test_inputs_are_counted(command: Callable[..., Any]):
    Path("l.txt").write_text("a.jpg\nb.jpg\n")
    made = command("plan", "l.txt", "c.jpg", "--rate", 1, "--machines", 1, "--json")
    assert [each["images"] for each in json.loads(made.out)["plans"]] == [3]


MISTAKES = [
    ([], "--rate or --bench"),
    (["--rate", "1", "--bench", "b.json"], "--rate or --bench"),
    (["--rate", "1", "--machines", "1", "--hours", "1"], "one of them is worked out"),
    (["--bench", "gone.json"], "gone.json cannot be read"),
    (["--rate", "1", "--prices", "p.toml"], "unknown key 'machine_hours'"),
    (["--rate", "1", "--like", "."], "no finished data set"),
    (["--rate", "-1"], "rate must be more than 0"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[case[1] for case in MISTAKES])
def test_a_mistake_is_a_sentence(command: Callable[..., Any], arguments: list[str], message: str):
    Path("p.toml").write_text("machine_hours = 1\n")
    refused = command("plan", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert message in refused.err
    assert "Traceback" not in refused.err
