"""Over the real S3 protocol: a store that breaks off and refuses costs time, and no row."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
if not all(
    map(importlib.util.find_spec, ("s3fs", "moto"))
):  # not imported here, where all other tests run too
    pytest.skip("needs s3fs and moto", allow_module_level=True)

SHARDS = 6
PICTURES = 10


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of an S3 server."""
    command = [sys.executable, str(Path(__file__).with_name("faulty_s3.py"))]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def call(address: str, data: bytes | None = None, method: str = "GET") -> bytes:
    headers = {
        "Content-Type": "application/octet-stream",  # else the server takes the bytes for a form
        "Authorization": "AWS4-HMAC-SHA256 Credential=somebody/20260101/us-east-1/s3/aws4_request",
    }
    request = urllib.request.Request(address, data=data, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


@pytest.fixture
def environment(server: str, tmp_path: Path) -> dict[str, str]:
    """Of a process that knows this server."""
    known = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "hush-hush",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(tmp_path),
    }
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | known


@pytest.fixture
def score(model: Path, efiqa: Callable[..., Any]) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """`efiqa score …` as a process."""

    def run(*arguments: object, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
        words = ["score", *arguments, "-m", model, "--faces", "none", "--runtime", "onnxruntime"]
        done: subprocess.CompletedProcess[bytes] = efiqa(*words, env=env, timeout=300)
        return done

    return run


@pytest.fixture(scope="module")
def bucket(server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tar shards, and pictures beside them, all of them grey."""
    import numpy as np
    import PIL.Image

    folder = tmp_path_factory.mktemp("shards")
    call(f"{server}/faces", method="PUT")
    for level in range(PICTURES):
        PIL.Image.fromarray(np.full((16, 16, 3), 20 * level, np.uint8)).save(folder / f"{level:02}.png")
        call(f"{server}/faces/in/{level:02}.png", (folder / f"{level:02}.png").read_bytes(), "PUT")
    for number in range(SHARDS):
        with tarfile.open(folder / "s.tar", "w") as archive:
            for level in range(PICTURES):
                archive.add(folder / f"{level:02}.png", f"{number}-{level:02}.png")
        call(f"{server}/faces/in/{number}.tar", (folder / "s.tar").read_bytes(), "PUT")
    return server


def test_refusals_and_cut_connections_change_no_byte(bucket: str, score, environment, tmp_path: Path):
    command = ("s3://faces/in/", "--shard-size", 5)
    quiet = score(*command, "-o", "s3://faces/quiet/", env=environment)
    assert quiet.returncode == 0, quiet.stderr
    call(f"{bucket}/_break")
    broken = score(*command, "-o", f"{tmp_path / 'broken'}/", "--concurrency", 2, env=environment)
    assert broken.returncode == 0, broken.stderr
    faults = json.loads(call(f"{bucket}/_faults"))
    assert faults["503"] >= 3
    assert faults["cut"] >= 3
    records = [json.loads(line) for line in (tmp_path / "broken" / "_shards.jsonl").read_text().splitlines()]
    assert len(records) == PICTURES // 5 + SHARDS
    assert sum(record["statuses"]["ok"] for record in records) == PICTURES * (1 + SHARDS)
    for record in records:
        part = (tmp_path / "broken" / record["file"]).read_bytes()
        assert part == call(f"{bucket}/faces/quiet/{record['file']}")
    assert (tmp_path / "broken" / "_failed.jsonl").read_bytes() == b""


def test_without_credentials_the_stores_words_are_the_error(bucket: str, score, environment, tmp_path: Path):
    nobody = {name: value for name, value in environment.items() if "ACCESS_KEY" not in name}
    refused = score("s3://faces/in/", "-o", f"{tmp_path / 's'}/", env=nobody)
    assert refused.returncode == 2
    assert b"s3://faces/in/: Unable to locate credentials" in b" ".join(refused.stderr.split())
    assert b"Traceback" not in refused.stderr
    assert not (tmp_path / "s").exists()


TELL = """
import sys
from efiqa.errors import EfiqaError
from efiqa.sources import expand
for address in sys.argv[1:]:
    try:
        print(len(list(expand([address]))))
    except EfiqaError as error:
        print(error)
"""


def test_a_bucket_that_is_not_there_and_an_empty_prefix_are_errors_without_a_secret(
    bucket: str, environment: dict[str, str]
):
    addresses = ["s3://nobody/", "s3://faces/none/", "s3://faces/none/*.tar", "s3://faces/gone.tar"]
    command = [sys.executable, "-c", TELL, *addresses, "s3://faces/in/*.png"]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=300, check=True, text=True)
    *refused, found = done.stdout.splitlines()
    assert int(found) == PICTURES
    assert len(refused) == len(addresses)
    for address, said in zip(addresses, refused, strict=True):
        assert address in said
        assert "hush" not in said
