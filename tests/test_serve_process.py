"""The service as a process of its own, on real connections: what clients do to it, and how it ends."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import io
import itertools
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest

httpx2 = pytest.importorskip("httpx2")
pytest.importorskip("fastapi")

from efiqa.client import AsyncClient, Box, Client, ServiceError

if TYPE_CHECKING:
    from conftest import Service

TYPE = {"Content-Type": "application/octet-stream"}
HEAD = b"POST /v1/score?faces=none HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"


def png(level: int = 51, size: int = 32) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.full((size, size, 3), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def memory(service: Service) -> int:
    """Most kilobytes that it ever had."""
    status = Path(f"/proc/{service.process.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1])


def number(service: Service, name: str) -> float:
    """A number of its metrics; 0 where there is none."""
    text = httpx2.get(f"{service.url}/metrics").text
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)


def works(service: Service) -> bool:
    try:
        with Client(service.url) as client:
            (picture,) = client.score(png(51), faces="none")
    except httpx2.TransportError:
        return False
    return [face.score for face in picture.faces] == [0.2]


def answered(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """(status, body) of what comes until the other side closes."""
    data = b""
    with connection:
        while part := connection.recv(65536):
            data += part
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def until(condition: Callable[[], bool]) -> None:
    """Two minutes: a busy machine may take one to start a process."""
    for _ in range(12000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


@pytest.fixture(scope="module")
def service(serve: type[Service], model: Path) -> Iterator[Service]:
    with serve("-m", model) as started:
        yield started
        assert started.stop() == 0


@pytest.fixture(scope="module")
def hasty(serve: type[Service], model: Path) -> Iterator[Service]:
    """A service that waits for no client for more than a second."""
    with serve("-m", model, "--read-timeout", 1, "-q") as started:
        yield started
        assert started.stop() == 0


@pytest.fixture
def opened() -> Iterator[contextlib.ExitStack]:
    """Closes the connections that a test opens, also where it fails."""
    with contextlib.ExitStack() as stack:
        yield stack


# The client


def test_the_client_gives_pictures_in_order_whatever_they_come_from(service: Service, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png(0))
    sources = [tmp_path / "a.png", str(tmp_path / "a.png"), png(51), b"no picture", io.BytesIO(png(255))]
    with Client(service.url) as client:
        pictures = client.score(*sources, faces="none")
        assert client.ready()
        assert [model["name"] for model in client.models()] == ["mean"]
        assert client.card()["meaning"] == "0 is black, 1 is white"
    assert [picture.status for picture in pictures] == ["ok", "ok", "ok", "not_an_image", "ok"]
    assert [picture.faces[0].score for picture in pictures if picture.faces] == [0, 0, 0.2, 1]
    assert pictures[2].faces[0].quality == 20
    assert "no picture" in pictures[3].message


def test_one_bad_picture_has_a_status_too_and_a_refused_request_raises(service: Service):
    with Client(service.url) as client:
        (picture,) = client.score(b"")
        assert (picture.status, picture.faces) == ("empty", ())
        with pytest.raises(ServiceError, match="no such model") as caught:
            client.score(png(), model="other")
        assert (caught.value.status, caught.value.code, caught.value.hint) == (
            404,
            "unknown_model",
            "there is mean",
        )
        assert len(caught.value.request_id) == 32
        with pytest.raises(ValueError, match="at least one"):
            client.score()


def test_the_asynchronous_client_does_the_same(service: Service):
    async def run() -> None:
        async with AsyncClient(service.url) as client:
            rows = await asyncio.gather(
                *(client.score(png(level), faces="none") for level in range(0, 256, 17))
            )
            scores = [picture.faces[0].score for pictures in rows for picture in pictures]
            assert scores == [round(level / 255, 5) for level in range(0, 256, 17)]
            assert (await client.ready(), (await client.card())["name"]) == (True, "mean")
            assert len(await client.models()) == 1
            with pytest.raises(ServiceError):
                await client.card("other")

    asyncio.run(run())


def test_the_client_reads_boxes_and_forgives_what_it_does_not_know():
    from efiqa.client import _picture

    face = {"box": {"x": 1, "y": 2, "width": 3, "height": 4, "angle": 5}, "score": 0.5, "new": [1]}
    picture = _picture({"status": "ok", "faces": [face], "later": {}})
    assert picture.faces[0].box == Box(1, 2, 3, 4)
    assert picture.faces[0].score == 0.5


def test_the_client_waits_as_long_as_it_is_told_to_and_no_longer_than_it_wants():
    answers = [(429, "1"), (503, ""), (200, "")]
    seen: list[float] = []

    def answer(_: Any) -> Any:
        seen.append(time.monotonic())
        status, after = answers[min(len(seen), 3) - 1]
        return httpx2.Response(status, headers={"Retry-After": after} if after else {}, json={"models": []})

    for patience, count in ((30.0, 3), (0.5, 1)):
        seen.clear()
        with Client(patience=patience) as client:
            client._http = httpx2.Client(transport=httpx2.MockTransport(answer), base_url="http://a")
            if count == 3:
                assert client.models() == []
                assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(seen))
            else:
                with pytest.raises(ServiceError, match="without a reason"):
                    client.models()
        assert len(seen) == count


# What clients do to it


def test_whoever_brings_headers_or_a_body_too_slowly_is_given_up(
    hasty: Service, opened: contextlib.ExitStack
):
    def connect(data: bytes = b"") -> socket.socket:
        return opened.enter_context(hasty.connect(data))

    silent = connect()
    slow_head = connect(HEAD[:40])
    slow_body = connect(HEAD + b"Content-Length: 1000\r\n\r\n" + bytes(10))
    after = connect(HEAD.replace(b"image/png", b"text/html") + b"Content-Length: 100\r\n\r\n")
    assert after.recv(12) == b"HTTP/1.1 415"  # answered, but the body still does not come
    for connection in (slow_head, slow_body):
        status, body = answered(connection)
        assert (status, body["error"]["code"]) == (408, "too_slow")
    for connection in (silent, after):
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
    assert works(hasty)


def test_a_byte_at_a_time_is_too_slow_as_well(hasty: Service):
    sent = 0
    with hasty.connect() as connection, contextlib.suppress(OSError):  # reset, or a broken pipe
        for sent in range(1000):
            connection.sendall(HEAD[sent % 20 : sent % 20 + 1])
            time.sleep(0.1)
    assert sent < 200
    assert works(hasty)


def test_connections_over_the_limit_are_closed_and_the_others_stay(
    serve: type[Service], model: Path, opened: contextlib.ExitStack
):
    options = ("--max-connections", 3, "--read-timeout", 300, "-q")
    with serve("-m", model, *options) as service:
        held = [opened.enter_context(service.connect()) for _ in range(3)]
        for _ in range(20):
            with service.connect() as over, contextlib.suppress(ConnectionResetError):
                assert over.recv(1) == b""
        for connection in held:
            connection.settimeout(0.01)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        opened.close()
        until(lambda: works(service))
        assert service.stop() == 0


def test_two_hundred_megabytes_are_refused_in_bounded_memory(service: Service):
    assert works(service)
    before = memory(service)
    block = bytes(1 << 20)
    for _ in range(3):
        with httpx2.Client(timeout=60) as client:
            answer = client.post(
                f"{service.url}/v1/score",
                content=iter([block] * 200),
                headers={**TYPE, "Content-Length": "209715200"},
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
            answer = client.post(f"{service.url}/v1/score", content=iter([block] * 200), headers=TYPE)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert memory(service) - before < 100_000
    assert works(service)


def test_who_leaves_midway_leaves_nothing_behind(service: Service):
    data = png(size=1000)
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data
    for end in (10, len(HEAD), len(whole) // 2, len(whole)):
        for _ in range(5):
            service.connect(whole[:end]).close()
    until(lambda: number(service, "efiqa_images_waiting") == 0)
    assert works(service)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # a TLS client
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"\r\n" * 1000 + b"nonsense\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_small_400_or_nothing(service: Service, data: bytes):
    connection = service.connect(data)
    with contextlib.suppress(ConnectionResetError, IndexError):
        status, body = answered(connection)
        assert (status, set(body["error"])) == (400, {"code", "message", "hint"})
    assert works(service)


def test_nothing_but_lines_of_the_known_form_was_logged(service: Service):
    assert works(service)
    until(lambda: len(service.said) > 3)
    line = r"\d{4}-\d\d-\d\dT[\d:.]+Z INFO [A-Za-z]+ (/[a-z0-9/]+|unknown) \d{3} [\d.]+ms id=[0-9a-f]{32}\n"
    for said in service.said[1:]:
        assert re.fullmatch(line, said)


def test_what_schemathesis_makes_of_the_description_finds_no_mistake(
    serve: type[Service], model: Path, tmp_path: Path
):
    pytest.importorskip("schemathesis")
    (tmp_path / "keys").write_text("key", encoding="utf-8")
    with serve("-m", model, "--keys", tmp_path / "keys", "-q") as service:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"]
        command += ["-H", "Authorization: Bearer key", "--checks", "all", "--seed", "1", "--no-color"]
        command += ["--max-examples", "30", "--suppress-health-check", "all", "--warnings", "off"]
        # Bytes and strings that fit the description are mostly no picture: 422, and rightly so.
        command += ["--exclude-checks", "positive_data_acceptance"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        asked = httpx2.get(f"{service.url}/metrics", headers={"Authorization": "Bearer key"}).text
        assert service.stop() == 0
    counts = re.findall(r'efiqa_requests_total\{.*route="([^"]+)",status="(\d)\d\d"\} ([\d.]+)', asked)
    assert {status for _, status, _ in counts} == {"2", "4"}
    assert sum(float(count) for route, _, count in counts if route == "/v1/score") > 50
    assert {route for route, _, _ in counts} >= {"/v1/card", "/v1/models", "/healthz", "/readyz"}
    assert "\n".join(service.said).count("Traceback") == 0


# How it starts, and how it ends


def test_a_second_service_at_the_port_a_bad_key_file_and_no_page_are_said(
    service: Service, command: Callable[..., Any], model: Path, tmp_path: Path
):
    (tmp_path / "keys").write_text("\n\n", encoding="utf-8")
    for options, message in (
        (["--port", service.address[1]], "cannot be listened at"),
        (["--host", "host.invalid"], "cannot be listened at"),
        (["--keys", tmp_path / "keys"], "holds no key"),
        (["--keys", tmp_path / "none"], "cannot be read"),
        (["--tls-key", tmp_path / "keys"], "needs --tls-certificate"),
        (["--tls-certificate", tmp_path / "keys"], "no certificate"),
        (["--max-body", "0"], "body must be at least 1"),
        (["-m", tmp_path / "none.onnx"], "there is no model"),
    ):
        result = command("serve", "-m", model, "--port", 0, *options)
        assert (result.code, result.out) == (2, "")
        assert message in result.err


def test_without_the_extra_it_says_what_to_install(efiqa: Callable[..., Any]):
    result = efiqa("serve", before="import sys; sys.modules['fastapi'] = None")
    assert result.returncode == 2
    assert b'pip install "efiqa[serve]"' in result.stderr


def load(service: Service, clients: int) -> tuple[list[int], list[BaseException], list[threading.Thread]]:
    """Clients that send pictures one after another until they are told 503: statuses, and what was lost."""
    statuses: list[int] = []
    lost: list[BaseException] = []
    data = png(size=600)

    def run() -> None:
        with httpx2.Client(timeout=60) as client:
            while True:
                try:
                    status = client.post(
                        f"{service.url}/v1/score?faces=none", content=data, headers=TYPE
                    ).status_code
                except Exception as error:  # noqa: BLE001, whatever it is
                    lost.append(error)
                    return
                statuses.append(status)
                if status != 200:
                    return

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    return statuses, lost, threads


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_under_load_loses_no_accepted_request(serve: type[Service], model: Path, processes: int):
    with serve("-m", model, "--processes", processes, "--drain", 5, "-q") as service:
        statuses, lost, threads = load(service, 8)
        until(lambda: len(statuses) > 60)
        assert number(service, "efiqa_images_total") >= 1
        service.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert lost == []
        assert set(statuses) == {200, 503}
        assert statuses.count(503) == 8
        service.process.wait(120)
        with pytest.raises(OSError, match="refused"):
            service.connect()
        service.stop()
    assert [line for line in service.said if "Traceback" in line or "Error" in line] == []


def test_of_several_processes_one_that_dies_is_replaced(serve: type[Service], model: Path):
    with serve("-m", model, "--processes", 2, "-q") as service:
        listed = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")

        def children() -> set[int]:
            found = set()
            for pid in map(int, listed.read_text(encoding="ascii").split()):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                    if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        found.add(pid)
            return found

        if listed.exists():  # not every kernel lists them
            first = children()
            assert len(first) == 2
            os.kill(min(first), signal.SIGKILL)
            until(lambda: len(children() - first) == 1)
        until(lambda: works(service))
        assert service.stop(signal.SIGTERM) == 0


def test_keys_and_tls(serve: type[Service], model: Path, tmp_path: Path):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    for blob in own.cert_chain_pems:
        blob.write_to_path(tmp_path / "cert.pem", append=True)
    (tmp_path / "keys").write_text("one\n\n two \n", encoding="utf-8")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    options = ("--tls-certificate", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem", "-q")
    environment = {"EFIQA_KEYS": "three"}
    with serve("-m", model, "--keys", tmp_path / "keys", *options, environment=environment) as service:
        assert service.url.startswith("https://")
        for key in ("one", "two", "three"):
            with Client(service.url, key=key, verify=context) as client:
                assert client.score(png(), faces="none")[0].faces[0].score == 0.2
        for key in (None, "four"):
            with Client(service.url, key=key, verify=context) as client:
                with pytest.raises(ServiceError) as caught:
                    client.score(png())
                assert caught.value.status == 401
        assert service.stop(signal.SIGTERM) in (0, -signal.SIGTERM)


def test_it_listens_to_this_machine_alone_unless_told_otherwise(
    serve: type[Service], service: Service, model: Path
):
    assert service.address[0] == "127.0.0.1"
    with serve("-m", model, "--host", "0.0.0.0", "-q") as other:
        assert "anyone who reaches 0.0.0.0" in other.said[0]
        assert other.stop() == 0


def test_sixty_four_clients_over_the_limit_of_the_queue_see_200_and_429_only(
    serve: type[Service], model: Path
):
    data = png(size=600)
    with (
        serve("-m", model, "--workers", 1, "--queue", 2, "-q") as service,
        httpx2.Client(timeout=60, limits=httpx2.Limits(max_connections=64)) as client,
        concurrent.futures.ThreadPoolExecutor(64) as pool,
    ):

        def ask(_: int) -> int:
            return client.post(f"{service.url}/v1/score?faces=none", content=data, headers=TYPE).status_code

        assert set(pool.map(ask, range(256))) == {200, 429}
        assert service.stop() == 0


def test_an_answer_does_not_wait_until_its_head_is_acknowledged():
    from efiqa.serve.server import Address

    with Address(port=0).listen() as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
