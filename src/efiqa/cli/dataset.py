"""efiqa score -o FOLDER/: tasks, workers and the data set brought together, and seen running."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efiqa.cli.terminal import plain, progress_bar, talk

if TYPE_CHECKING:
    from efiqa.shards import Named, Shard
    from efiqa.workers import Pool, Setup


def score_data_set(
    inputs: Iterable[Named | Shard],
    output: str,
    setup: Setup,
    *,
    job: dict[str, Any],
    shard_size: int,
    concurrency: int | None,
    ray: str | None,
    resume: bool,
    log: Path | None,
    metrics: Path | None,
    quiet: bool,
) -> tuple[Counter[str], Counter[str], int]:
    """Score `inputs` into `output`; returns rows by status and by decision, and how many shards have none.

    Raises what the inputs, the data set and the workers raise.
    """
    from efiqa.dataset import FAILED, DataSet
    from efiqa.engine import score_all
    from efiqa.stores import join, public
    from efiqa.tables import pyarrow_module
    from efiqa.tasks import Tasks
    from efiqa.watch import Watch

    pyarrow_module("pyarrow.parquet")
    tasks = Tasks(inputs, shard_size)
    data_set = DataSet(output, {**job, "shard_size": shard_size}, tasks, resume=resume)
    with (
        closing(data_set),
        Watch(data_set.id, len(tasks), data_set.finished_records, log=log, metrics=metrics) as watch,
        progress_bar(quiet, "shards/s") as progress,
    ):
        bar = progress.add_task("", total=len(tasks), completed=watch.done) if progress else None
        if watch.done < len(tasks):
            with _workers(setup, ray, concurrency) as (pool, count):
                for outcome in score_all(tasks, pool, skip=data_set.finished, concurrency=count):
                    record = data_set.add(outcome) if outcome.over else None
                    watch.note(outcome, record)
                    if progress and bar is not None:
                        progress.update(bar, completed=watch.done + watch.failed, description=watch.said())
                    elif not quiet and watch.due():
                        talk.print(watch.said(left=True), highlight=False)
        data_set.finish()
    lost = sum(len(record.get("lost", ())) for record in data_set.records.values())
    if not quiet and (lost or watch.failed):
        talk.print(
            f"{watch.failed:,} shards without rows, {lost:,} rows that another day might have got: "
            f"{plain(public(join(output, FAILED)))}; --resume tries the shards again",
        )
    return watch.statuses, watch.decisions, watch.failed


@contextmanager
def _workers(setup: Setup, ray: str | None, concurrency: int | None) -> Iterator[tuple[Pool, int]]:
    """Where the work is done, and by how many."""
    if ray is None:
        from efiqa.workers import Processes

        yield Processes(setup), concurrency or 1
        return
    from efiqa.scale import Cluster

    cores = setup.options["workers"] * setup.options["threads"]
    with closing(Cluster(setup, address=ray, cores=cores)) as cluster:
        yield cluster, concurrency or cluster.room
