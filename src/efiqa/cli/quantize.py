"""efiqa quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from efiqa.cli.terminal import Seed, plain, talk


def quantize(
    output: Annotated[Path, typer.Option("--output", "-o", help="The int8 model, an .onnx.")],
    images: Annotated[
        list[str],
        typer.Option(help="Pictures like those to be scored: a folder, list or manifest; repeatable."),
    ],
    model: Annotated[
        Path | None,
        typer.Argument(help="ONNX model in fp32 with a card; default: the embedded student."),
    ] = None,
    faces: Annotated[
        str, typer.Option(help="**largest**: the largest face of each; **none**: the picture is the crop.")
    ] = "largest",
    pictures: Annotated[int, typer.Option(help="To calibrate on, and as many others to check on.")] = 150,
    seed: Seed = 0,
) -> None:
    """Make an int8 copy of a model and prove that it still says the same.

    Half of the pictures drawn calibrate it. On the other half SRCC with the model in fp32 must be at least
    0.998 and no score may change by more than 0.06, or nothing is written. `efiqa bench` says how fast it is.

    `efiqa quantize model.onnx --images photos/ -o model.int8.onnx`

    Needs `pip install "efiqa[quantize]"`.
    """
    from efiqa.quantize import LEAST_PICTURES, Seen, crops_of, drawn
    from efiqa.quantize import quantize as make
    from efiqa.runtime import find_model
    from efiqa.scorer import Scorer
    from efiqa.sources import expand

    if faces not in ("largest", "none"):
        raise typer.BadParameter(f"--faces is largest or none, but got {faces!r}")
    if pictures < LEAST_PICTURES:
        raise typer.BadParameter(f"--pictures is at least {LEAST_PICTURES}, but got {pictures}")
    if output.suffix.lower() != ".onnx":
        raise typer.BadParameter(f"expected a name ending in .onnx, but got {str(output)!r}")
    source = find_model(model)
    scorer = Scorer(source, runtime="onnxruntime")
    seen, unused = crops_of(
        scorer,
        drawn(list(expand(images)), seed),
        2 * pictures,
        faces=faces,  # type: ignore[arg-type]
    )
    for line in unused:
        talk.print(f"left out: {plain(line)}")
    halves = [Seen(seen.pixels[part], seen.scores[part]) for part in (slice(0, None, 2), slice(1, None, 2))]
    card = make(source, output, *halves)
    found = card.quantization
    if found is not None:
        talk.print(
            f"{plain(card.source)}: calibrated on {found.calibrated_on:,} pictures; on {found.n:,} others "
            f"SRCC with fp32 is {found.srcc:.4f}, the largest change of a score {found.largest_change:.4f} "
            f"→ {plain(str(output))}",
        )
