"""efiqa serve."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from efiqa.cli.terminal import Precision, Runtime, Threads, extra, plain, talk

KEYS = "EFIQA_KEYS"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            "-m",
            help="ONNX model with a card; repeatable, the first answers unless another is asked for.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 or :: for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    page: Annotated[bool, typer.Option("--page", help="Serve the page too, at /.")] = False,
    policy: Annotated[
        str | None,
        typer.Option(metavar="FILE|NAME", help="Add `decision` and `reasons`, as efiqa score does."),
    ] = None,
    attributes: Annotated[
        bool, typer.Option("--attributes", help="Add why: sharpness, exposure, …, and `reasons`.")
    ] = False,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Add `low` and `high`, as efiqa score does.")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What quality is relative to, by efiqa calibrate.")
    ] = None,
    detector: Annotated[str, typer.Option(help="blazeface, or the path of a YuNet ONNX file.")] = "blazeface",
    runtime: Runtime = "auto",
    precision: Precision = "fp32",
    threads: Threads = 1,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pictures at a time in each process; default: one per usable core, shared out."
        ),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share the port.")] = 1,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Ask for a key: one a line in this file, or in the environment variable {KEYS}.",
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Pages of this origin may call (CORS); repeatable; * for any."),
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file; serves https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, a PEM file.")] = None,
    max_body: Annotated[float, typer.Option(help="Megabytes of one request.")] = 32,
    max_held: Annotated[float, typer.Option(help="Megabytes of all bodies in memory at a time.")] = 256,
    max_images: Annotated[int, typer.Option(min=1, help="Pictures of one request.")] = 16,
    max_pixels: Annotated[float, typer.Option(help="Megapixels of one picture.")] = 50,
    max_faces: Annotated[int, typer.Option(min=1, help="Faces of one picture.")] = 100,
    max_connections: Annotated[int, typer.Option(min=1, help="Connections open at a time.")] = 500,
    queue: Annotated[int, typer.Option(min=1, help="Pictures that wait; what is over it gets 429.")] = 64,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that a picture may wait.")] = 30,
    read_timeout: Annotated[
        float, typer.Option(min=1, help="Seconds for headers, and for a body, to come.")
    ] = 10,
    drain: Annotated[
        float,
        typer.Option(min=0, help="Seconds that new requests get 503 after SIGTERM, before the port closes."),
    ] = 3,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line for each request.")] = False,
) -> None:
    """Answer over HTTP: pictures in, faces with scores out. Limits are of each process.

    It listens to this machine alone unless --host says otherwise. No picture, name or face is stored or
    logged.

    `efiqa serve --policy enrolment`

    `curl -F images=@photo.jpg http://127.0.0.1:8000/v1/score`
    """
    with extra("serve"):
        from efiqa.serve import Address, Limits
        from efiqa.serve import serve as listen
        from efiqa.serve.page import page_folder

    if tls_key is not None and tls_certificate is None:
        raise typer.BadParameter("--tls-key needs --tls-certificate")
    known = _read_keys(keys)
    options = {
        "detector": detector,
        "threads": threads,
        "workers": workers or _share(threads, processes),
        "attributes": attributes,
        "runtime": runtime,
        "precision": precision,
        "max_pixels": int(max_pixels * 1e6),
        "max_faces": max_faces,
    }
    service = {
        "limits": Limits(
            body=int(max_body * 1e6),
            held=int(max_held * 1e6),
            images=max_images,
            queue=queue,
            connections=max_connections,
            read_timeout=read_timeout,
            timeout=timeout,
        ),
        "keys": known,
        "origins": origin or [],
        "page_folder": page_folder() if page else None,
    }
    if host not in LOOPBACK and not known:
        talk.print(f"anyone who reaches {plain(host)} can use this service: --keys asks for a key")

    def ready(url: str) -> None:
        talk.print(f"efiqa serves at {url}; Ctrl-C ends it", highlight=False)

    listen(
        partial(make_app, [*model] if model else [None], options, policy, calibration, intervals, service),
        Address(host, port, tls_certificate, tls_key),
        processes=processes,
        drain=drain,
        log_requests=not quiet,
        ready=ready,
    )


def make_app(
    models: list[Path | None],
    options: dict[str, Any],
    policy: str | None,
    calibration: Path | None,
    intervals: bool,
    service: dict[str, Any],
) -> Any:
    """The FastAPI application that the options describe; made anew in each process."""
    from efiqa.calibrate import read_calibration
    from efiqa.policy import read_policy
    from efiqa.scorer import DEFAULT_COVERAGE, Scorer
    from efiqa.serve import create_app

    scorers = [
        Scorer(
            path,
            calibration=read_calibration(calibration) if calibration else None,
            coverage=DEFAULT_COVERAGE if intervals else None,
            policy=None if policy is None else read_policy(policy),
            **options,
        )
        for path in models
    ]
    return create_app(scorers, **service)


def _share(threads: int, processes: int) -> int:
    """Workers of each process, so that all have one core for each thread."""
    from efiqa.cores import available_cores

    return max(1, available_cores() // (threads * processes))


def _read_keys(file: Path | None) -> list[str]:
    """Keys of the file and the environment. Raises InvalidArgument for a file that is none, or empty."""
    from efiqa.errors import InvalidArgument

    text = os.environ.get(KEYS, "")
    if file is not None:
        try:
            text = f"{text}\n{file.read_text(encoding='utf-8')}"
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"{file} cannot be read: {error}") from error
    known = [line.strip() for line in text.splitlines() if line.strip()]
    if file is not None and not known:
        raise InvalidArgument(f"{file} holds no key", hint="one a line")
    return known
