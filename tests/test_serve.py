"""The service in this process: what it answers, and how it refuses."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import json
import logging
import re
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from efiqa.card import ModelCard
from efiqa.errors import InvalidArgument, ModelError
from efiqa.records import ATTRIBUTES
from efiqa.scorer import Scorer
from efiqa.serve import Limits, create_app
from efiqa.serve import page as page_module
from efiqa.serve.bodies import MARKS, Intake
from efiqa.serve.page import page_folder

FILE = "application/octet-stream"


def png(level: int = 51, size: tuple[int, int] = (32, 32)) -> bytes:
    """A grey picture, which the model scores level / 255."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.full((size[1], size[0], 3), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of few bytes that says it has 3.6 gigapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture(scope="module")
def small(model: Path) -> Scorer:
    return Scorer(model, workers=2, max_pixels=10**6)


@pytest.fixture(scope="module")
def service(small: Scorer) -> Iterator[TestClient]:
    with TestClient(create_app([small], limits=Limits(body=100_000, held=200_000, images=4))) as client:
        yield client


def refused(answer: Any) -> tuple[int, str]:
    """(status, code) of an answer that must be a small typed error."""
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "hint"}
    assert error["message"]
    assert len(answer.content) < 1000
    return answer.status_code, error["code"]


def scores(answer: Any) -> list[float]:
    assert answer.status_code == 200, answer.text
    return [face["score"] for image in answer.json()["images"] for face in image["faces"]]


# What is answered


def test_one_picture_can_be_sent_as_it_is_in_a_part_and_in_json(service: TestClient):
    url, data = "/v1/score?faces=none", png(51)
    text = base64.b64encode(data).decode()
    for answer in (
        service.post(url, content=data, headers={"Content-Type": "image/png"}),
        service.post(url, content=data, headers={"Content-Type": FILE}),
        service.post(url, files={"anything": data}),
        service.post(url, json={"images": [text]}),
    ):
        assert scores(answer) == [0.2]


def test_several_pictures_are_answered_in_order_and_a_bad_one_costs_the_others_nothing(service: TestClient):
    files = [("images", ("same name", part)) for part in (png(0), b"<html>", png(255))]
    answer = service.post("/v1/score?faces=none", files=files).json()
    assert [image["status"] for image in answer["images"]] == ["ok", "not_an_image", "ok"]
    assert [image["faces"][0]["score"] if image["faces"] else None for image in answer["images"]] == [
        0,
        None,
        1,
    ]
    assert "<html>" in answer["images"][1]["message"]
    assert answer["model"] == "mean@1"


def test_a_part_without_a_file_name_is_a_picture_too(service: TestClient):
    assert scores(service.post("/v1/score?faces=none", data={}, files={"a": (None, png(102))})) == [0.4]


def test_parts_hold_every_byte_also_what_looks_like_a_boundary(service: TestClient):
    buffer = io.BytesIO()
    picture = PIL.Image.new("RGB", (32, 32), (51, 51, 51))
    picture.save(buffer, "JPEG", comment=b"\r\n--\r\n--XX\r\n\r\n--X")
    body = b"--X\r\nContent-Disposition: form-data\r\n\r\n" + buffer.getvalue() + b"\r\n--X--\r\n"
    answer = service.post(
        "/v1/score?faces=none", content=body, headers={"Content-Type": "multipart/form-data; boundary=X"}
    )
    assert scores(answer) == [0.2]


def test_faces_have_their_boxes_and_without_one_the_status_says_so(
    model: Path, known_faces: Callable[..., Any], service: TestClient
):
    scorer = Scorer(model, detector=known_faces((2, 3, 10, 10), (0, 0, 6, 8)))
    with TestClient(create_app([scorer])) as client:
        for query, count in (("", 2), ("?faces=largest", 1)):
            faces = client.post(f"/v1/score{query}", files={"a": png(51)}).json()["images"][0]["faces"]
            assert len(faces) == count
            assert faces[0]["box"] == {"x": 2, "y": 3, "width": 10, "height": 10}
            assert (faces[0]["score"], faces[0]["quality"], faces[0]["detection"]) == (0.2, 20.0, 0.9)
            assert "small face" in faces[0]["message"]
            assert faces[0]["attributes"] is faces[0]["decision"] is faces[0]["reasons"] is None
    image = service.post("/v1/score", files={"a": png(51)}).json()["images"][0]
    assert (image["status"], image["faces"]) == ("no_face", [])
    assert "faces=none" in image["message"]


def test_the_answer_is_what_the_scorer_says(model: Path, known_faces: Callable[..., Any]):
    array = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(array).save(buffer, "PNG")
    scorer = Scorer(model, detector=known_faces((5, 5, 40, 40)), attributes=True)
    (row,) = scorer.predict(buffer.getvalue())
    with TestClient(create_app([scorer])) as client:
        (face,) = client.post("/v1/score", files={"a": buffer.getvalue()}).json()["images"][0]["faces"]
    assert (face["score"], face["quality"]) == (row.score, row.quality)
    assert face["attributes"] == {name: getattr(row, name) for name in ATTRIBUTES}
    assert face["reasons"] == row.reasons.split(";")
    assert face["decision"] is None


def test_under_a_policy_every_picture_is_decided():
    sample = Path(__file__).parents[1] / "examples" / "samples" / "astronaut.jpg"
    from efiqa.policy import read_policy

    with TestClient(create_app([Scorer(policy=read_policy("profile"))])) as client:
        files = [("images", sample.read_bytes()), ("images", png(51)), ("images", b"no picture")]
        portrait, grey, bad = client.post("/v1/score", files=files).json()["images"]
        assert portrait["faces"][0]["decision"] == "accept"
        assert (grey["status"], grey["decision"]) == ("no_face", "reject")
        assert (bad["status"], bad["decision"]) == ("not_an_image", "reject")
        assert client.get("/v1/models").json()["models"][0]["policy"] == "profile"


def test_models_and_cards_can_be_asked_for_by_name(small: Scorer, other_model: Path, card: ModelCard):
    with TestClient(create_app([small, Scorer(other_model, workers=2)])) as client:
        models = client.get("/v1/models").json()["models"]
        assert [(item["name"], item["default"]) for item in models] == [("mean", True), ("half", False)]
        for query, score in (("", 0.2), ("&model=mean", 0.2), ("&model=half", 0.1), ("&model=half@1", 0.1)):
            answer = client.post(f"/v1/score?faces=none{query}", files={"a": png(51)})
            assert scores(answer) == [score]
        assert client.get("/v1/card").json() == json.loads(card.to_json())
        assert client.get("/v1/card?model=half").json()["name"] == "half"
        assert refused(client.get("/v1/card?model=third")) == (404, "unknown_model")
        answer = client.post("/v1/score?model=third", files={"a": png()})
        assert refused(answer) == (404, "unknown_model")
        assert "mean, half" in answer.json()["error"]["hint"]


def test_two_models_of_one_name_are_no_service(small: Scorer):
    with pytest.raises(InvalidArgument, match="same name"):
        create_app([small, small])
    with pytest.raises(InvalidArgument, match="needs a model"):
        create_app([])


def test_a_request_keeps_its_id_and_gets_one_where_it_has_none(service: TestClient):
    assert service.get("/healthz", headers={"X-Request-ID": "trace-1"}).headers["x-request-id"] == "trace-1"
    for given in ("", "a b", "x" * 65, "a\n"):
        made = service.get("/healthz", headers={"X-Request-ID": given}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", made)


def test_probes_and_metrics_tell_what_was_done(small: Scorer):
    with TestClient(create_app([small])) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ready"}
        client.post("/v1/score?faces=none", files=[("a", png()), ("a", png()), ("a", b"bad")])
        client.post("/v1/score", content=b"x", headers={"Content-Type": "text/plain"})
        client.request("BREW", "/v1/score")
        client.get("/who/is/this")
        text = client.get("/metrics").text
    for line in (
        'efiqa_requests_total{method="POST",route="/v1/score",status="200"} 1.0',
        'efiqa_requests_total{method="POST",route="/v1/score",status="415"} 1.0',
        'efiqa_requests_total{method="other",route="/v1/score",status="405"} 1.0',
        'efiqa_requests_total{method="GET",route="unknown",status="404"} 1.0',
        'efiqa_images_total{status="ok"} 2.0',
        'efiqa_images_total{status="not_an_image"} 1.0',
        "efiqa_faces_total 2.0",
        "efiqa_images_waiting 0.0",
        "efiqa_image_seconds_count 3.0",
        "process_resident_memory_bytes",
    ):
        assert f"\n{line}" in text


def test_nothing_of_a_request_is_logged_but_its_route_status_time_and_id(
    service: TestClient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    logging.getLogger("efiqa.serve").propagate = True
    with caplog.at_level(logging.DEBUG):
        service.post(
            "/v1/score?faces=none&secret=Erika",
            files=[("Erika", ("Erika.png", png())), ("Erika", b"Erika is no picture")],
        )
        service.post("/v1/score?faces=none", files=[("Erika", ("Erika.png", b"Erika")), ("Erika", png())])
        service.get("/Erika", headers={"X-Request-ID": "Erika Muster"})
    out, err = capfd.readouterr()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("efiqa")]
    assert re.fullmatch(r"POST /v1/score 200 [\d.]+ms id=[0-9a-f]{32}", lines[1])
    assert "Erika" not in "".join(lines) + out + err


def test_no_byte_of_a_body_touches_the_disk(service: TestClient, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a temporary file")

    for name in ("NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile", "mkstemp", "mkdtemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 150, 3), np.uint8)).save(
        buffer, "PNG"
    )
    answer = service.post("/v1/score?faces=none", files={"a": ("a.png", buffer.getvalue())})
    assert len(scores(answer)) == 1


# What is refused


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"<html>", 422, "not_an_image"),
        (b"", 422, "empty"),
        (png()[:60], 422, "corrupt"),
        (png(size=(4, 4)), 422, "too_small"),
        (bomb(), 413, "too_large"),
        (bomb(1000, 1001), 413, "too_large"),  # over the limit of the service, of a megapixel
    ],
)
def test_a_picture_that_cannot_be_used_is_an_error_that_names_its_status(
    service: TestClient, body: bytes, status: int, code: str
):
    answer = service.post("/v1/score?faces=none", content=body, headers={"Content-Type": "image/png"})
    assert refused(answer) == (status, code)


def test_a_crowd_is_refused_unless_only_the_largest_face_is_asked_for(
    model: Path, known_faces: Callable[..., Any]
):
    boxes = [(index, index, 20, 20) for index in range(10)]
    with TestClient(create_app([Scorer(model, detector=known_faces(*boxes), max_faces=9)])) as client:
        assert refused(client.post("/v1/score", files={"a": png()})) == (422, "too_many_faces")
        assert len(scores(client.post("/v1/score?faces=largest", files={"a": png()}))) == 1


def test_a_body_over_the_limit_is_refused_and_not_read(service: TestClient):
    sent = 0

    def much() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(2000):
            sent += 1
            yield bytes(100_000)

    announced = {"Content-Type": FILE, "Content-Length": "200000000"}
    assert refused(service.post("/v1/score", content=b"x", headers=announced)) == (413, "body_too_large")
    answer = service.post("/v1/score", content=much(), headers={"Content-Type": FILE})
    assert refused(answer) == (413, "body_too_large")


def test_ten_thousand_parts_are_refused(service: TestClient):
    part = b"--X\r\n\r\n\r\n"
    answer = service.post(
        "/v1/score", content=10_000 * part, headers={"Content-Type": "multipart/form-data; boundary=X"}
    )
    assert refused(answer) == (413, "too_many_images")
    many = {"images": ["aaaa"] * 10_000}
    assert refused(service.post("/v1/score", json=many)) == (413, "too_many_images")
    assert refused(service.post("/v1/score", json={"images": ["aaaa"] * 5})) == (413, "too_many_images")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"images": ["%%%%"]}', "not_base64"),
        ('{"images": ["data:image/png;base64,aaaa"]}', "not_base64"),
        ('{"images": ["aaa"]}', "not_base64"),
        ('{"images": ["\\u00e4"]}', "not_base64"),
        ('{"images": [""]}', "empty"),
        ('{"images": []}', "bad_json"),
        ('{"images": [1]}', "bad_json"),
        ('{"images": "aaaa"}', "bad_json"),
        ('{"images": ["aaaa"], "face": "all"}', "bad_json"),
        ("{}", "bad_json"),
        ("[]", "bad_json"),
        ("", "bad_json"),
        ("\0\xff", "bad_json"),
        ('"' + "9" * 5000, "bad_json"),
        ("[" * 900, "bad_json"),
        ("[" * 2 * MARKS, "too_many_images"),
        ("[" + "{}," * MARKS, "too_many_images"),
    ],
)
def test_json_that_is_not_pictures_is_refused(service: TestClient, text: str, code: str):
    headers = {"Content-Type": "application/json"}
    answer = service.post("/v1/score", content=text.encode("latin-1"), headers=headers)
    assert refused(answer) == (413 if code == "too_many_images" else 422, code)


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("multipart/form-data", b"x", "bad_multipart"),
        ("multipart/form-data; boundary=" + "x" * 500, b"x", "bad_multipart"),
        ("multipart/form-data; boundary=X", b"", "bad_multipart"),
        ("multipart/form-data; boundary=X", b"no boundary at all", "bad_multipart"),
        ("multipart/form-data; boundary=X", b"--X\r\nA: b\r\n\r\ncut", "bad_multipart"),
        ("multipart/form-data; boundary=X", b"--X\r\n" + b"A" * 90_000, "bad_multipart"),
        ("multipart/form-data; boundary=X", b"--X--\r\n", "no_image"),
    ],
)
def test_parts_that_cannot_be_told_apart_are_refused(service: TestClient, kind: str, body: bytes, code: str):
    answer = service.post("/v1/score", content=body, headers={"Content-Type": kind})
    assert refused(answer) == (422, code)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/html"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json-patch+json"},
        {"Content-Type": "image/png", "Content-Encoding": "gzip"},
    ],
)
def test_another_kind_of_body_is_refused(service: TestClient, headers: dict[str, str]):
    answer = service.post("/v1/score", content=png(), headers=headers)
    assert refused(answer)[0] == 415


def test_another_address_method_or_parameter_is_refused_in_the_same_form(service: TestClient):
    assert refused(service.get("/v2/score")) == (404, "not_found")
    answer = service.get("/v1/score")
    assert refused(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    for query in ("faces=many", "face=largest", "faces=all&faces=x"):
        answer = service.post(f"/v1/score?{query}", files={"a": png()})
        assert refused(answer) == (422, "bad_parameter")


def test_only_who_has_a_key_gets_an_answer(small: Scorer):
    with TestClient(create_app([small], keys=["first key", "second-ä"])) as client:

        def ask(path: str, key: str | bytes | None) -> Any:
            value = b"Bearer " + key.encode() if isinstance(key, str) else key
            headers = {} if value is None else {"Authorization": value}
            if path == "/v1/score":
                return client.post(path + "?faces=none", files={"a": png()}, headers=headers)
            return client.get(path, headers=headers)

        for path in ("/v1/score", "/v1/models", "/v1/card", "/metrics"):
            answer = ask(path, None)
            assert refused(answer) == (401, "no_key")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert refused(ask(path, b"Basic Zmlyc3Qga2V5")) == (401, "no_key")
            for wrong in ("", "first", "first keyy", "FIRST KEY"):
                assert refused(ask(path, wrong))[0] == 401
            assert refused(ask(path, b"Bearer \xff\xfe")) == (401, "wrong_key")
            assert ask(path, "first key").status_code == 200
        assert ask("/v1/models", "second-ä").status_code == 200
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert client.get(path).status_code == 200


def test_pages_of_named_origins_may_call_and_read_errors_too(small: Scorer):
    page = {"Origin": "https://photos.example"}
    asks = {**page, "Access-Control-Request-Method": "POST"}
    with TestClient(create_app([small], origins=["https://photos.example"])) as client:
        answer = client.options("/v1/score", headers=asks)
        assert answer.headers["access-control-allow-origin"] == "https://photos.example"
        answer = client.post("/v1/score", content=b"", headers={**page, "Content-Type": "text/plain"})
        assert answer.status_code == 415
        assert answer.headers["access-control-allow-origin"] == "https://photos.example"
        other = {"Origin": "https://other.example", "Access-Control-Request-Method": "POST"}
        assert "access-control-allow-origin" not in client.options("/v1/score", headers=other).headers
    with TestClient(create_app([small])) as client:
        assert client.options("/v1/score", headers=asks).status_code == 405


def test_while_it_drains_new_work_is_refused_and_connections_close(small: Scorer):
    app = create_app([small])
    with TestClient(app) as client:
        app.state.draining = True
        for answer in (client.post("/v1/score", files={"a": png()}), client.get("/readyz")):
            assert refused(answer) == (503, "draining")
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["connection"] == "close"
        assert client.get("/healthz").status_code == 200


def test_a_mistake_of_ours_is_a_small_500_whose_log_has_no_message(
    small: Scorer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*_: object, **__: object) -> None:
        raise ModelError("gives nan for " + "akirE"[::-1])

    logging.getLogger("efiqa.serve").propagate = True
    with TestClient(create_app([small])) as client:
        monkeypatch.setattr(Scorer, "predict", fail)
        answer = client.post("/v1/score", files={"a": png()})
        assert refused(answer) == (500, "internal")
        monkeypatch.undo()
        assert len(scores(client.post("/v1/score?faces=none", files={"a": png()}))) == 1
    assert answer.headers["x-request-id"] in answer.json()["error"]["hint"]
    assert "ModelError in request" in caplog.text
    assert "desk.py" in caplog.text
    assert "Erika" not in caplog.text


# Limits of all clients together


class Slow:
    """A detector that waits until it may go on, and then finds no face."""

    name = "slow"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.seen = threading.Semaphore(0)

    def detect(self, image: np.ndarray) -> list[Any]:
        if image.shape[0] != 64:  # what the service itself starts with
            self.seen.release()
            assert self.go.wait(30)
        return []


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def ask(model: Path, slow: Slow) -> Iterator[Callable[..., Any]]:
    """`ask(limits)` gives a function that sends `count` pictures in a thread of its own, and its answers."""
    clients: list[TestClient] = []

    def start(limits: Limits) -> Callable[..., threading.Thread]:
        client = TestClient(create_app([Scorer(model, detector=slow, workers=1)], limits=limits))
        client.__enter__()
        clients.append(client)

        def send(answers: list[Any], count: int = 1) -> threading.Thread:
            files = [("images", png())] * count
            thread = threading.Thread(target=lambda: answers.append(client.post("/v1/score", files=files)))
            thread.start()
            return thread

        send.client = client  # type: ignore[attr-defined]
        return send

    yield start
    slow.go.set()
    for client in clients:
        client.__exit__(None, None, None)


def test_more_than_can_wait_is_refused_with_a_time_to_come_back(slow: Slow, ask: Callable[..., Any]):
    send = ask(Limits(queue=2))
    accepted: list[Any] = []
    threads = [send(accepted), send(accepted, 2)]  # one is worked on, two wait
    while "efiqa_images_waiting 3.0" not in send.client.get("/metrics").text:
        time.sleep(0.01)
    for count in (1, 3):
        send(more := [], count).join(30)
        assert refused(more[0]) == (429, "busy")
        assert int(more[0].headers["retry-after"]) >= 1
    slow.go.set()
    for thread in threads:
        thread.join(30)
    assert [answer.status_code for answer in accepted] == [200, 200]


def test_what_waits_for_too_long_is_given_up_and_the_work_goes_on(slow: Slow, ask: Callable[..., Any]):
    send = ask(Limits(timeout=1))
    first: list[Any] = []
    second: list[Any] = []
    one = send(first)
    assert slow.seen.acquire(timeout=30)
    send(second, 3).join(30)
    assert refused(second[0]) == (429, "busy")
    slow.go.set()
    one.join(30)
    assert first[0].status_code == 200  # it had begun, so it was finished
    send(third := []).join(30)
    assert third[0].status_code == 200


def test_all_bodies_together_have_a_limit_and_are_counted_down(small: Scorer):
    intake = Intake(Limits(body=1000, held=1500))

    class Sent:
        def __init__(self, size: int) -> None:
            self.size, self.headers = size, {"content-type": FILE}

        async def stream(self) -> Any:
            yield bytes(self.size)

    async def both() -> None:
        async with intake.pictures(Sent(1000)) as pictures:  # type: ignore[arg-type]
            assert (intake.held, len(pictures[0])) == (1000, 1000)
            with pytest.raises(Exception, match="1,500 bytes together") as caught:
                async with intake.pictures(Sent(501)):  # type: ignore[arg-type]
                    pass
            assert caught.value.status == 429  # type: ignore[attr-defined]
            assert intake.held == 1000
        assert intake.held == 0

    asyncio.run(both())


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Limits)])
def test_a_limit_below_one_is_refused(field: str):
    for value in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InvalidArgument, match=f"{field} must be at least 1"):
            Limits(**{field: value})
    with pytest.raises(InvalidArgument, match="at least the limit of one"):
        Limits(body=100, held=99)


# The page


def test_the_page_is_served_with_headers_under_which_it_may_run(small: Scorer, tmp_path: Path):
    (tmp_path / "index.html").write_text("<!doctype html>", encoding="utf-8")
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "a.wasm").write_bytes(b"\0asm")
    (tmp_path / "a.mjs").write_text("1", encoding="utf-8")
    (tmp_path.parent / "secret").write_text("not for you", encoding="utf-8")
    with TestClient(create_app([small], page_folder=tmp_path)) as client:
        answer = client.get("/")
        assert answer.text == "<!doctype html>"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert client.get("/assets/a.wasm").headers["content-type"] == "application/wasm"
        assert client.get("/a.mjs").headers["content-type"].startswith("text/javascript")
        assert refused(client.get("/other.html")) == (404, "not_found")
        assert refused(client.get("/..%2fsecret")) == (404, "not_found")
        assert scores(client.post("/v1/score?faces=none", files={"a": png()})) == [0.2]
        text = client.get("/metrics").text
    assert 'route="page"' in text
    assert "wasm" not in text


def test_where_no_page_is_installed_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page_module.resources, "files", lambda _: tmp_path)
    with pytest.raises(InvalidArgument, match="no part of this installation") as caught:
        page_folder()
    assert "scripts/page builds it" in str(caught.value.hint)
