"""One model, several runtimes: the same scores, said aloud which runs, and a sentence where one cannot."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from efiqa import cores, openvino_runtime, runtime
from efiqa import scorer as scorer_module
from efiqa.cores import available_cores
from efiqa.errors import InvalidArgument, MissingExtra, ModelError
from efiqa.openvino_runtime import OpenVinoNetwork, without_telemetry
from efiqa.runtime import open_model
from efiqa.scorer import Scorer

SAMPLES = Path(__file__).parent.parent / "examples" / "samples"

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed (the extra openvino)"
)
needs_bf16 = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None or not openvino_runtime.has_bf16(),
    reason="needs openvino and a processor with bf16",
)
RUNTIMES = [pytest.param("onnxruntime"), pytest.param("openvino", marks=needs_openvino)]


def noise(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(runtime, "installed", lambda: False)


# The same scores


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_network_gives_the_mean_of_each_picture(model: Path, name):
    pictures = noise(3)
    network = open_model(model, runtime=name).network
    scores = network(pictures)
    assert (scores.dtype, scores.shape) == (np.float32, (3,))
    assert scores == pytest.approx(pictures.mean((1, 2, 3)) / 255, abs=1e-6)
    assert network(pictures[1:2]) == pytest.approx(scores[1:2], abs=0)


@needs_openvino
def test_signals_are_handled_after_networks_are_gone(model: Path):
    code = f"""
import gc, os, signal
from pathlib import Path
from efiqa.runtime import open_model
first = open_model(Path({str(model)!r}), runtime="openvino")
second = open_model(Path({str(model)!r}), runtime="openvino")
del first; gc.collect()
del second; gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGTERM)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "heard\n")


@needs_openvino
def test_scores_in_fp32_agree_on_the_sample_portraits():
    here, there = Scorer(runtime="onnxruntime"), Scorer(runtime="openvino")
    for path in sorted(SAMPLES.glob("*.jpg")):
        pairs = zip(here.predict(path), there.predict(path), strict=True)
        for one, other in pairs:
            assert one.score == pytest.approx(other.score, abs=1e-4)


@needs_openvino
def test_scores_in_fp32_agree_on_the_golden_pictures_as_they_are():
    here, there = Scorer(runtime="onnxruntime"), Scorer(runtime="openvino")
    paths = sorted((Path(__file__).parent / "golden" / "pictures").iterdir())
    pairs = zip(here.score_many(paths, faces="none"), there.score_many(paths, faces="none"), strict=True)
    scored = [(one.score, other.score) for one, other in pairs if one.score is not None]
    assert len(scored) >= 15
    for one, other in scored:
        assert one == pytest.approx(other, abs=1e-4)


@needs_openvino
def test_one_network_of_openvino_scores_one_picture_after_another_each_by_itself(model: Path):
    network = open_model(model, runtime="openvino").network
    for pictures in (noise(3), np.zeros((2, 32, 32, 3), np.uint8), noise(1)[:, ::-1]):
        assert network(pictures) == pytest.approx(pictures.mean((1, 2, 3)) / 255, abs=1e-6)


@needs_bf16
def test_bf16_is_near_and_says_what_it_is():
    scorer = Scorer(precision="bf16")
    assert (scorer.opened.runtime, scorer.opened.precision) == ("OpenVINO", "bf16")
    path = SAMPLES / "astronaut.jpg"
    assert scorer.score(path) == pytest.approx(Scorer(runtime="onnxruntime").score(path), abs=0.03)


@pytest.mark.parametrize("name", RUNTIMES)
def test_threads_that_share_a_network_get_their_own_scores(model: Path, name):
    pictures = noise(64)
    network = open_model(model, workers=4, runtime=name).network
    with ThreadPoolExecutor(4) as pool:
        scores = list(pool.map(lambda index: network(pictures[index : index + 1])[0], range(64)))
    assert scores == pytest.approx((pictures.mean((1, 2, 3)) / 255).tolist(), abs=1e-6)


@pytest.mark.parametrize("name", RUNTIMES)
def test_threads_that_are_the_first_to_run_it_do_not_wait_for_each_other(model: Path, name: str):
    code = (
        "import sys, threading; from pathlib import Path; import numpy as np; "
        "from efiqa.runtime import open_model; "
        f"network = open_model(Path({str(model)!r}), workers=4, runtime={name!r}).network; "
        f"start, picture = threading.Barrier(4), np.zeros((1, 32, 32, 3), np.uint8); "
        "threads = [threading.Thread(target=lambda: (start.wait(), network(picture))) for _ in range(4)]; "
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


# Which one runs


@needs_openvino
def test_auto_is_openvino_where_it_is_installed(model: Path):
    opened = open_model(model)
    assert (opened.runtime, opened.precision, opened.fell_back) == ("OpenVINO", "fp32", "")


@pytest.mark.usefixtures("no_openvino")
def test_auto_is_onnx_runtime_where_openvino_is_not_installed(model: Path):
    opened = open_model(model)
    assert (opened.runtime, opened.precision, opened.fell_back) == ("ONNX Runtime", "fp32", "")


@pytest.mark.usefixtures("no_openvino")
@pytest.mark.parametrize("options", [{"runtime": "openvino"}, {"precision": "bf16"}])
def test_openvino_that_is_asked_for_and_not_installed_is_an_error_with_the_install_line(model: Path, options):
    with pytest.raises(MissingExtra, match="'openvino', which is not installed") as caught:
        open_model(model, **options)
    assert caught.value.hint == 'pip install "efiqa[openvino]"'


@needs_openvino
def test_a_model_that_openvino_cannot_run_falls_back_and_says_why(
    model: Path, monkeypatch: pytest.MonkeyPatch, command: Callable, grey: Callable, tmp_path: Path
):
    def refuse(self, *_):
        raise ModelError("no such operator: Frobnicate")

    monkeypatch.setattr(OpenVinoNetwork, "compile", refuse)
    assert open_model(model).runtime == "ONNX Runtime"
    with pytest.raises(ModelError, match="Frobnicate"):
        open_model(model, runtime="openvino")
    picture = grey(tmp_path / "a.png")
    answer = command("score", picture, "-m", model, "--faces", "none")
    assert "ONNX Runtime scores instead: OpenVINO cannot run" in answer.err
    assert "Frobnicate" in answer.err
    assert command("score", picture, "-m", model, "--faces", "none", "-q").err == ""


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_command_says_which_runtime_scores(
    model: Path, name, command: Callable, grey: Callable, tmp_path: Path
):
    said = {"onnxruntime": "(ONNX Runtime, fp32)", "openvino": "(OpenVINO, fp32)"}[name]
    answer = command("score", grey(tmp_path / "a.png"), "-m", model, "--faces", "none", "--runtime", name)
    assert answer.code == 0
    assert said in answer.err


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "tensorrt"}, "runtime must be auto, onnxruntime, openvino, cuda, but got 'tensorrt'"),
        ({"precision": "int4"}, "precision must be fp32, bf16, but got 'int4'"),
        ({"runtime": "onnxruntime", "precision": "bf16"}, "ONNX Runtime has no bf16"),
    ],
)
def test_an_unknown_choice_is_an_error(model: Path, options, message: str):
    with pytest.raises(InvalidArgument, match=message):
        Scorer(model, **options)


@needs_openvino
def test_bf16_on_a_processor_without_it_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openvino_runtime, "has_bf16", lambda: False)
    with pytest.raises(ModelError, match="this processor has no bf16"):
        open_model(model, precision="bf16")


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x09\x12\x00" * 50])
def test_a_file_that_is_no_model_is_an_error_in_each_runtime(tmp_path: Path, name, content: bytes):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx is not a model"):
        open_model(tmp_path / "m.onnx", runtime=name)


@needs_openvino
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata": None}, "has no model card"),
        ({"side": 48}, r"expected uint8 \(n, 32, 32, 3\) in, but got tensor\(uint8\)"),
        ({"kind": "FLOAT"}, r"but got tensor\(float\)"),
        ({"batch": 1}, "any batch size"),
        ({"outputs": 2}, "one input and one output, but got 1 and 2"),
    ],
)
def test_openvino_refuses_what_contradicts_its_card(
    tmp_path: Path, make_model: Callable[..., Path], changes, message: str
):
    with pytest.raises(ModelError, match=message):
        open_model(make_model(tmp_path / "m.onnx", **changes), runtime="openvino")


# Nothing leaves this machine


def test_what_is_imported_without_telemetry_finds_none_and_nothing_is_left_changed():
    before = sys.modules.get("openvino_telemetry")
    with without_telemetry(), pytest.raises(ImportError):
        import openvino_telemetry  # noqa: F401
    assert sys.modules.get("openvino_telemetry") is before


@needs_openvino
def test_openvino_is_loaded_without_its_telemetry_and_writes_nothing(model: Path, tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from efiqa.runtime import open_model; "
        f"open_model(Path({str(model)!r}), runtime='openvino'); "
        "assert 'openvino' in sys.modules; assert 'openvino_telemetry' not in sys.modules"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, cwd=tmp_path
    )
    assert not list(tmp_path.rglob("*"))


def test_the_command_does_not_load_openvino_for_onnx_runtime(model: Path):
    code = (
        f"import sys; from efiqa import Scorer; Scorer({str(model)!r}, runtime='onnxruntime'); "
        "assert 'openvino' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# Cores


def test_more_threads_than_cores_are_as_many_as_there_are(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scorer_module, "available_cores", lambda: 2)
    scorer = Scorer(model, threads=64)
    assert (scorer.threads, scorer.workers) == (2, 1 + 1)


def test_a_quota_of_a_group_above_holds_for_those_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    inside = tmp_path / "user.slice" / "job.scope"
    inside.mkdir(parents=True)
    (inside / "cpu.max").write_text("max 100000\n")
    (inside.parent / "cpu.max").write_text("50000 100000\n")
    own = tmp_path / "own"
    own.write_text("0::/user.slice/job.scope\n")
    assert cores._cgroup_quota(tmp_path, own) == 0.5
    own.write_text("0::/../../elsewhere\n")
    assert cores._cgroup_quota(tmp_path, own) == float("inf")
    monkeypatch.setattr(cores, "_cgroup_quota", lambda: 0.5)
    assert available_cores() == 1
