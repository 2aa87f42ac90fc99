"""One way to judge pictures, in a process of its own; `speed.py` starts it and says which pictures.

    python benchmarks/contenders.py CORES NAME '{"option": …}'

Reads lines from stdin, each a JSON list of paths, and answers each with what judging them took: wall and CPU
seconds, and the most memory so far. An empty answer comes first, when the model is loaded. BRISQUE needs no
efiqa, so that it may have an environment of its own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

Judge = Callable[[list[str]], object]


def efiqa(folder: Path, model: str, faces: str, runtime: str, precision: str) -> Judge:
    """What `efiqa score --faces FACES -o scores.csv` does once it has started."""
    from efiqa.journal import run_job
    from efiqa.records import Prediction
    from efiqa.scorer import Scorer
    from efiqa.sources import Named

    scorer = Scorer(model, runtime=runtime, precision=precision)  # type: ignore[arg-type]

    def judge(paths: list[str]) -> None:
        named = [Named(path, path) for path in paths]
        run_job(
            named,
            lambda items: scorer.predict_many(items, faces=faces),  # type: ignore[arg-type]
            folder / "scores.csv",
            job={},
            done=check,
        )

    def check(rows: list[Prediction]) -> None:
        for row in rows:
            if row.score is None:
                raise SystemExit(f"{row.image} has no score: {row.message}")

    return judge


def pytorch(folder: Path, model: str) -> Judge:
    """The common way: eager, channels-last, one picture at a time, all cores, resized by Pillow."""
    import numpy as np
    import PIL.Image
    import torch

    from efiqa.runtime import open_model, shipped_models
    from efiqa.train.model import build_model, load_start
    from efiqa.train.recipe import Model

    path = shipped_models()[model]
    card = open_model(path, runtime="onnxruntime").card
    wanted = card.recipe["model"]
    network = build_model(Model(wanted["backbone"], tuple(wanted["mean"]), tuple(wanted["std"])))
    load_start(network, str(path))
    network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def score(path: str) -> float:
        picture = PIL.Image.open(path).convert("RGB")
        picture = picture.resize((card.input_size, card.input_size), PIL.Image.Resampling.BILINEAR)
        with torch.no_grad():
            return float(network(torch.from_numpy(np.array(picture))[None])[0])

    return lambda paths: [score(path) for path in paths]


def onnxruntime(folder: Path, model: str) -> Judge:
    """A session as it comes, one picture at a time, resized by Pillow."""
    import numpy as np
    import PIL.Image

    from efiqa.onnx_runtime import onnxruntime as runtime
    from efiqa.runtime import shipped_models

    session = runtime.InferenceSession(shipped_models()[model], providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    size = port.shape[1]

    def score(path: str) -> float:
        picture = PIL.Image.open(path).convert("RGB").resize((size, size), PIL.Image.Resampling.BILINEAR)
        return float(session.run(None, {port.name: np.asarray(picture)[None]})[0][0])

    return lambda paths: [score(path) for path in paths]


def brisque(folder: Path) -> Judge:
    """Mittal et al., 2012, by the package `brisque`, its model inside."""
    import numpy as np
    import PIL.Image
    from brisque import BRISQUE

    metric = BRISQUE(url=False)
    return lambda paths: [metric.score(np.asarray(PIL.Image.open(path).convert("RGB"))) for path in paths]


def laplacian(folder: Path) -> Judge:
    """Variance of OpenCV's Laplacian of the grey picture: what people use when in a hurry."""
    import cv2

    def score(path: str) -> float:
        return float(cv2.Laplacian(cv2.imread(path, cv2.IMREAD_GRAYSCALE), cv2.CV_64F).var())

    return lambda paths: [score(path) for path in paths]


CONTENDERS = {each.__name__: each for each in (efiqa, pytorch, onnxruntime, brisque, laplacian)}


def peak_mb() -> float | None:
    """Most memory of this process in MB (2^20 bytes) since it was started; none where Linux does not say.

    Not ru_maxrss, which begins with the memory of that which starts a process.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    cores, name, options = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    if hasattr(os, "sched_setaffinity"):  # before anything counts the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what others print is no answer
    with tempfile.TemporaryDirectory() as folder:
        judge = CONTENDERS[name](Path(folder), **options)
        print("{}", file=answers, flush=True)
        for line in sys.stdin:
            paths = json.loads(line)
            wall, cpu = time.perf_counter(), time.process_time()
            judge(paths)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            took = {"wall": wall, "cpu": cpu, "peak_mb": peak_mb()}
            print(json.dumps(took), file=answers, flush=True)


if __name__ == "__main__":
    main()
