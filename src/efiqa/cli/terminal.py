"""What all verbs share: talk on stderr, the progress bar, options that mean the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from efiqa.errors import MissingExtra

if TYPE_CHECKING:
    from rich.progress import Progress

talk = Console(stderr=True, soft_wrap=True)


Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        help="ONNX model with a card, or one that ships: see efiqa info --list. Default: student.",
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads inside one network run.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Pictures at a time; default: one more than usable cores, with a GPU four a core."
    ),
]
Runtime = Annotated[
    str,
    typer.Option(
        help="**onnxruntime**, **openvino**, **cuda**: an NVIDIA GPU with onnxruntime-gpu, or **auto**: "
        "OpenVINO where it is installed and can."
    ),
]
Precision = Annotated[
    str, typer.Option(help="**fp32**, or **bf16**: OpenVINO's, faster where the processor has it.")
]
Manifest = Annotated[Path, typer.Option("--output", "-o", help="The manifest to write, a .csv.")]
Seed = Annotated[int, typer.Option(min=0, help="Another seed gives another draw.")]


def complain(message: str, hint: str | None = None) -> None:
    talk.print(f"[bold red]error:[/] {plain(message)}", highlight=False)
    if hint:
        talk.print(f"[bold cyan]hint:[/] {plain(hint)}", highlight=False)


def plain(text: str) -> str:
    return escape(text.encode("utf-8", "backslashreplace").decode())


@contextmanager
def progress_bar(quiet: bool, unit: str = "images/s") -> Iterator[Progress | None]:
    """A bar on stderr with count, rate, time left; none where nobody looks."""
    if quiet or not talk.is_terminal:
        yield None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f} {unit}")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=talk) as progress:
        yield progress


@contextmanager
def extra(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(str(error.name), extra=name) from error
