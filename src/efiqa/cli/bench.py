"""efiqa bench."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from efiqa.cli.terminal import Threads, Workers, plain, progress_bar, talk


def bench(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IMAGES…]", help="Your pictures; default: 20 synthetic ones, as crops."),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model", "-m", help="ONNX model with a card; repeatable. Default: the embedded student."
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="**onnxruntime**, **openvino** or **cuda**; repeatable. Default: all that are installed, "
            "without cuda."
        ),
    ] = None,
    faces: Annotated[
        str, typer.Option(help="As of score; **none** with the synthetic pictures, which have no faces.")
    ] = "all",
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each; medians are over them.")] = 5,
    threads: Threads = 1,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="All numbers as JSON.")] = False,
) -> None:
    """Measure models on this machine: stages, end to end, memory, start-up, share of the machine's limit.

    Each model runs in each runtime and precision that can run it, in turns. Rows that are written go to a
    temporary folder. What else the machine does shows in the spread, and less in CPU times.

    `efiqa bench photos/ --model student.onnx --model student.int8.onnx --rounds 9`
    """
    from efiqa.bench import Entrant, entrants_of, markdown, measure, synthetic
    from efiqa.bench import as_json as to_json
    from efiqa.cores import available_cores
    from efiqa.sources import expand

    if faces not in ("all", "largest", "none"):
        raise typer.BadParameter(f"expected all, largest or none, but got {faces!r}")
    entrants: list[Entrant] = []
    for path in model or (None,):
        entrants += entrants_of(path, runtime)
    with tempfile.TemporaryDirectory() as folder, progress_bar(as_json, "turns/s") as progress:
        if images:
            pictures = [item.path for item in expand(images) if item.error is None and item.read is None]
        else:
            pictures, faces = synthetic(Path(folder), 20), "none"
        if not pictures:
            raise typer.BadParameter("there are no pictures among these inputs")
        task = progress.add_task("measuring", total=len(entrants) * (rounds + 1)) if progress else None

        def done() -> None:
            if progress and task is not None:
                progress.advance(task)

        results = measure(
            entrants,
            pictures,
            faces=faces,  # type: ignore[arg-type]
            rounds=rounds,
            threads=threads,
            workers=workers,
            done=done,
        )
    about = {"pictures": len(pictures), "faces": faces, "rounds": rounds, "cores": available_cores()}
    if as_json:
        print(to_json(results, **about), end="")  # noqa: T201
        return
    print(markdown(results))  # noqa: T201
    said = ", ".join(f"{value} {name}" for name, value in about.items() if name != "faces")
    talk.print(f"{plain(said)}, --faces {faces}; medians (least–most), {threads} thread(s) a network run")
