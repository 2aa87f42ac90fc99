"""A model whose score can be computed in the head: the picture's mean over 255."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import PIL.Image
import pytest

from efiqa.card import CROP_RULE, METADATA_KEY, RESIZE_RULE, ModelCard, Population
from efiqa.faces import Box, Face
from efiqa.image import Image
from efiqa.scorer import Scorer

hypothesis.settings.register_profile("efiqa", deadline=None)  # a busy machine is no wrong answer
hypothesis.settings.load_profile("efiqa")

SIDE = 32

CARD = ModelCard(
    name="mean",
    version="1",
    task="mean grey level",
    meaning="0 is black, 1 is white",
    backbone="none",
    input_size=SIDE,
    resize=RESIZE_RULE,
    crop=CROP_RULE,
    crop_scale=1.0,
    score_range=(0.0, 1.0),
    parameters=0,
    macs=SIDE * SIDE * 3,
    licence="Apache-2.0",
    trained_on=(),
    measured={},
    limits=(),
    recipe={},
    recipe_digest="",
    commit="",
    # The p-th percentile is p/100, so quality is 100 × score.
    population=Population("grey pictures", 101, tuple(percent / 100 for percent in range(101))),
)


def write_model(
    path: Path,
    *,
    metadata: str | None = CARD.to_json(),
    batch: str | int = "n",
    side: int = SIDE,
    kind: str = "UINT8",
    outputs: int = 1,
    flat: bool = True,
    divisor: float = 255.0,
) -> Path:
    """Write (n, side, side, 3) → mean / 255 as ONNX; the changes are what a card may be contradicted by."""
    from onnx import TensorProto, helper, save

    names = [f"score{index}" for index in range(outputs)]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2, 3], keepdims=int(not flat)),
        *(helper.make_node("Div", ["mean", "white"], [name]) for name in names),
    ]
    shape = [batch] if flat else [batch, 1, 1, 1]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("image", getattr(TensorProto, kind), [batch, side, side, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names],
        [helper.make_tensor("white", TensorProto.FLOAT, [], [divisor])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if metadata is not None:
        helper.set_model_props(model, {METADATA_KEY: metadata})
    save(model, str(path))
    return path


@pytest.fixture(scope="session")
def card() -> ModelCard:
    return CARD


@pytest.fixture
def make_model() -> Callable[..., Path]:
    return write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "mean.onnx")


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another name and other numbers, the same card otherwise."""
    path = tmp_path_factory.mktemp("model") / "half.onnx"
    return write_model(path, metadata=dataclasses.replace(CARD, name="half").to_json(), divisor=510.0)


class KnownFaces:
    """A detector that finds the same boxes in every picture."""

    name = "known"

    def __init__(self, *boxes: tuple[float, float, float, float]) -> None:
        self.boxes = boxes

    def detect(self, image: Image) -> list[Face]:
        return [Face(Box(*box), 0.9) for box in self.boxes]


@pytest.fixture
def known_faces() -> type[KnownFaces]:
    return KnownFaces


@pytest.fixture(scope="session")
def scorer(model: Path) -> Scorer:
    return Scorer(model, detector=KnownFaces(), workers=2)


@pytest.fixture
def grey() -> Callable[..., Path]:
    """`grey(path, level)` writes a picture of one grey level, which the model scores level / 255."""

    def write(path: Path, level: int = 128, size: tuple[int, int] = (SIDE, SIDE)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.full((size[1], size[0], 3), level, np.uint8)).save(path)
        return path

    return write


class Answer(NamedTuple):
    """What the command gave back: its exit code, stdout and stderr, the latter without line breaks."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`command("score", "a.png", …)` in this process."""

    def call(*arguments: object) -> Answer:
        from efiqa.cli import main

        monkeypatch.setattr(sys, "argv", ["efiqa", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return Answer(int(caught.value.code or 0), out, " ".join(err.split()))

    return call


@pytest.fixture
def efiqa() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """The command in a process of its own."""

    def run(*arguments: object, before: str = "", **options: Any) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-c", f"{before}\nfrom efiqa.cli import main; main()"]
        options = {"capture_output": True, "timeout": 120, **options}
        words = [word if isinstance(word, bytes) else str(word) for word in arguments]
        return subprocess.run([*command, *words], check=False, **options)

    return run


class Service:
    """`efiqa serve` with these options on a port that was free; `said` is what it writes.

    A context: nothing of it is left when a test fails, so that the next one starts on clean ground.
    """

    def __init__(self, *options: object, environment: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-W", "error", "-m", "efiqa", "serve", "--port", "0", *map(str, options)]
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        assert self.process.stderr is not None
        self.said: list[str] = []
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"serves at (https?)://([\d.]+):(\d+)", line):
                break
        else:
            self.end()
            raise AssertionError("".join(self.said))
        self.url = found[0].removeprefix("serves at ")
        self.address = (found[2], int(found[3]))
        self._reader = threading.Thread(
            target=lambda: self.said.extend(self.process.stderr or ()), daemon=True
        )
        self._reader.start()

    def stop(self, sig: int = signal.SIGINT) -> int:
        """Its exit code, after this signal."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.process.wait(120)
        self._reader.join(10)
        self.end()
        return code

    def end(self) -> None:
        """At once, with the processes that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(120)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def connect(self, data: bytes = b"") -> socket.socket:
        connection = socket.create_connection(self.address, timeout=60)
        connection.sendall(data)
        return connection


@pytest.fixture(scope="session")
def serve() -> type[Service]:
    """`with serve("-m", model) as service:` starts one, on `service.url`."""
    return Service
