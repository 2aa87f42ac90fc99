"""End-to-end images/s of `efiqa score`, against the same network run the common way, in the same run.

    python benchmarks/throughput.py RUN [--images 400] [--rounds 5]

RUN is the run folder of the model (for the PyTorch side). 512 px JPEGs of synthetic texture are written to a
temporary folder. The two sides take turns:

- efiqa: `efiqa score FOLDER --faces none -o out.csv` in a fresh process, start-up and output included;
- PyTorch: the same weights, eager, channels-last, one picture at a time, all cores: Pillow opens and
  resizes, the model scores. The model is loaded and warm before its clock starts.

Prints medians, the spread, the ratio per round, peak memory, and start-up times.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from efiqa.bench import peak_memory, synthetic

COMMON = """
import sys, time
from pathlib import Path
import numpy as np, PIL.Image, torch
from efiqa.train.checkpoint import RunFolder, model_tensors
from efiqa.train.model import build_model
from efiqa.train.recipe import Model
tensors, position = RunFolder(Path(sys.argv[1])).load()
recipe = position.recipe
network = recipe["model"]
network = {name: tuple(value) if isinstance(value, list) else value for name, value in network.items()}
model = build_model(Model(**network))
model.load_state_dict(model_tensors(tensors))
model = model.eval().to(memory_format=torch.channels_last)
size = recipe["data"]["size"]
def score(path):
    picture = PIL.Image.open(path).convert("RGB")
    picture = picture.resize((size, size), PIL.Image.Resampling.BILINEAR)
    with torch.no_grad():
        return float(model(torch.from_numpy(np.array(picture))[None])[0])
paths = sorted(Path(sys.argv[2]).iterdir())
for path in paths[:10]:
    score(path)
started = time.perf_counter()
for path in paths:
    score(path)
print(time.perf_counter() - started)
"""


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", type=Path, help="the ONNX file of RUN; default: the embedded student")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text) / "pictures"
        folder.mkdir()
        synthetic(folder, arguments.images)
        first = next(folder.iterdir())
        command = [sys.executable, "-m", "efiqa", "score", "--faces", "none", "-q"]
        command += ["--model", str(arguments.model)] if arguments.model else []
        ours, common, starts, imports = [], [], [], []
        for number in range(arguments.rounds):
            ours.append(arguments.images / seconds([*command, str(folder), "-o", f"{text}/{number}.csv"]))
            run = [sys.executable, "-c", COMMON, str(arguments.run), str(folder)]
            printed = subprocess.run(run, check=True, capture_output=True, text=True).stdout
            common.append(arguments.images / float(printed))
            starts.append(seconds([*command, str(first)]))
            bare = seconds([sys.executable, "-c", "pass"])
            imports.append(seconds([sys.executable, "-c", "import efiqa"]) - bare)
        ratios = [a / b for a, b in zip(ours, common, strict=True)]
        whole = [*command, str(folder), "-o", f"{text}/memory.csv"]
        peak = peak_memory(whole)
    print("| | median | min | max |")
    print("|---|---|---|---|")
    for name, values, digits in (
        ("efiqa score, images/s", ours, 1),
        ("PyTorch eager, images/s", common, 1),
        ("ratio, round by round", ratios, 2),
        ("one picture from process start, s", starts, 2),
        ("import efiqa, s", imports, 3),
    ):
        numbers = (statistics.median(values), min(values), max(values))
        print(f"| {name} | {' | '.join(f'{number:.{digits}f}' for number in numbers)} |")
    if peak is not None:
        print(f"\npeak memory of efiqa score: {peak:.0f} MB")
    print(f"{arguments.images} pictures, {arguments.rounds} rounds")


if __name__ == "__main__":
    main()
