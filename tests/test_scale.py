"""A real cluster of two nodes that loses a worker and a node: the rows are one machine's, byte for byte."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from efiqa.errors import MissingExtra
from efiqa.records import read_predictions
from efiqa.scale import Cluster
from efiqa.workers import Setup

pytest.importorskip("pyarrow")
if not importlib.util.find_spec("ray"):  # not imported here, where all other tests run too
    pytest.skip("needs ray", allow_module_level=True)

SHARDS, PICTURES = 40, 50
# In a process of its own, as Ray warns and pytest takes warnings for errors.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
small = {"num_cpus": 1, "object_store_memory": 80 << 20}
cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
second = cluster.add_node(**small)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(second, allow_graceful=False)
    print("removed", flush=True)
cluster.shutdown()
"""


class TwoNodes:
    """One core each; `remove` takes the second away."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        assert process.stdout
        self._in, self._out = process.stdin, process.stdout
        self.address = self._answer(":")

    def _answer(self, part: str) -> str:
        for line in self._out:  # Ray may say more
            if part in line and " " not in line.strip():
                return line.strip()
        raise AssertionError("the cluster has ended")

    def remove(self) -> None:
        print(file=self._in, flush=True)
        self._answer("removed")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[TwoNodes]:
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", CLUSTER]
    with (
        (tmp_path / "ray.err").open("wb") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
        ) as process,
    ):
        try:
            yield TwoNodes(process)
        finally:
            assert process.stdin
            process.stdin.close()
            try:
                process.wait(120)
            finally:
                process.kill()


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """2,000 small pictures in 40 tars; one of them is damaged, one tar is cut off."""
    monkeypatch.chdir(tmp_path)
    for number in range(SHARDS):
        with tarfile.open(f"s-{number:02}.tar", "w") as archive:
            for index in range(PICTURES):
                file = io.BytesIO()
                level = (number * PICTURES + index) % 256
                PIL.Image.fromarray(np.full((24, 24, 3), level, np.uint8)).save(file, "png")
                data = b"<html>" if (number, index) == (7, 7) else file.getvalue()
                info = tarfile.TarInfo(f"{index:02}.png")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    cut = Path("s-20.tar")
    cut.write_bytes(cut.read_bytes()[:20_000])
    return "s-{00..39}.tar"


def events(log: Path) -> list[dict[str, Any]]:
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    return [json.loads(line) for line in lines]


def test_a_killed_worker_and_a_lost_node_change_no_byte(
    cluster: TwoNodes, shards: str, tmp_path: Path, model: Path, efiqa: Callable[..., Any]
):
    options = ["score", shards, "-m", model, "--faces", "none", "--runtime", "onnxruntime"]
    assert efiqa(*options, "-o", "one/").returncode == 0

    words = [*options, "-o", "two/", "--ray", cluster.address, "--log", "log.jsonl"]
    command = [sys.executable, "-c", "from efiqa.cli import main; main()", *map(str, words)]
    with (tmp_path / "driver.err").open("wb") as errors, subprocess.Popen(command, stderr=errors) as driver:
        try:
            done: list[dict[str, Any]] = []
            while len(done) < 2 and driver.poll() is None:
                time.sleep(0.005)
                done = [each for each in events(Path("log.jsonl")) if each["event"] == "shard"]
            assert len(done) >= 2, (tmp_path / "driver.err").read_text()
            driver.send_signal(signal.SIGSTOP)  # a quick machine would be done before the node is gone
            os.kill(done[-1]["pid"], signal.SIGKILL)
            cluster.remove()
            midway = len(list(Path("two").glob("part-*")))
            driver.send_signal(signal.SIGCONT)
            assert driver.wait(240) == 0, (tmp_path / "driver.err").read_text()
        finally:
            driver.kill()
    assert midway < SHARDS

    log = events(Path("log.jsonl"))
    assert [each for each in log if each["event"] == "again" and "a worker died" in each["reason"]]
    assert sorted(each["shard"] for each in log if each["event"] == "shard") == list(range(SHARDS))
    assert (log[-1]["done"], log[-1]["failed"]) == (SHARDS, 0)
    one, two = (
        {path.name: path.read_bytes() for path in Path(name).glob("part-*")} for name in ("one", "two")
    )
    assert len(one) == SHARDS
    assert two == one
    rows = list(read_predictions(Path("two")))
    names = [row.image for row in rows]
    assert len(set(names)) == len(names)
    whole = [f"s-{number:02}.tar/{index:02}.png" for number in range(SHARDS) for index in range(PICTURES)]
    assert {row.image for row in rows if not row.image.startswith("s-20.tar")} == {
        name for name in whole if not name.startswith("s-20.tar")
    }
    assert sorted({row.status for row in rows}) == ["incomplete", "not_an_image", "ok"]


def test_a_cluster_that_is_not_there_is_an_error(
    tmp_path: Path, model: Path, efiqa: Callable[..., Any], grey
):
    path = grey(tmp_path / "a.png", 51)
    words = ["score", path, "-m", model, "-o", f"{tmp_path / 's'}/", "--ray", "127.0.0.1:1"]
    refused = efiqa(*words, timeout=300)
    assert refused.returncode == 2
    assert b"there is no Ray cluster at 127.0.0.1:1" in b" ".join(refused.stderr.split())
    assert b"hint:" in refused.stderr
    assert b"Traceback" not in refused.stderr


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="'ray'") as caught:
        Cluster(Setup({}))
    assert caught.value.hint == 'pip install "efiqa[scale]"'


def test_ray_alone_means_auto_and_inputs_are_no_addresses():
    from efiqa.cli import _with_address

    for given, meant in (
        (["--ray"], ["--ray=auto"]),
        (["--ray", "photos/", "-o", "s/"], ["--ray=auto", "photos/", "-o", "s/"]),
        (["--ray", "--resume"], ["--ray=auto", "--resume"]),
        (["--ray", "local"], ["--ray", "local"]),
        (["--ray", "10.0.0.1:6379"], ["--ray", "10.0.0.1:6379"]),
        (["--ray", "ray://head:10001", "a.jpg"], ["--ray", "ray://head:10001", "a.jpg"]),
    ):
        assert _with_address(["score", *given]) == ["score", *meant]
