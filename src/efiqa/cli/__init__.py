"""The command `efiqa`: each verb parses, calls one function and prints. Data on stdout, talk on stderr."""

from __future__ import annotations

import io
import re
import sys
from typing import Annotated, NoReturn

import typer

from efiqa import __version__
from efiqa.cli.bench import bench
from efiqa.cli.calibrate import calibrate
from efiqa.cli.drift import drift
from efiqa.cli.evaluate import evaluate
from efiqa.cli.info import info
from efiqa.cli.label import label
from efiqa.cli.manifests import degrade, index
from efiqa.cli.plan import plan
from efiqa.cli.probe import probe
from efiqa.cli.quantize import quantize
from efiqa.cli.score import score
from efiqa.cli.serve import serve
from efiqa.cli.terminal import complain
from efiqa.cli.threshold import threshold
from efiqa.cli.train import export, train
from efiqa.errors import EfiqaError

app = typer.Typer(
    help="Face image quality: every face gets a score.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for verb in (
    *(score, info, index, degrade, label, evaluate, probe, calibrate, threshold, drift, train, export),
    *(quantize, bench, plan, serve),
):
    app.command()(verb)


def main() -> NoReturn:
    """Run the command: 0 done, 1 drift, or failed rows under --strict, 2 for errors, 130 for Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe gets UTF-8, as a file does; no name may end the run
        encoding = None if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    try:
        code = app(args=_with_address(sys.argv[1:]), standalone_mode=False)
    except EfiqaError as error:
        complain(str(error), error.hint)
        code = 2
    except typer.Exit as error:
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except Exception as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # Ctrl-C while a library loads is an ImportError
            code = 130
        elif hasattr(error, "format_message"):
            complain(error.format_message(), "efiqa --help, or efiqa VERB --help")
            code = 2
        else:  # a mistake of ours: the traceback is for us
            raise
    if code == 130:  # also what newer typer returns for Ctrl-C
        complain("interrupted", "the same command with --resume goes on, where it has that option")
    sys.exit(code if isinstance(code, int) else 0)


def _with_address(arguments: list[str]) -> list[str]:
    """`--ray` alone means `--ray auto`: what follows is its address only where it looks like one."""
    given = []
    for at, word in enumerate(arguments):
        following = arguments[at + 1] if at + 1 < len(arguments) else ""
        alone = word == "--ray" and not re.fullmatch(r"auto|local|ray://\S+|[\w.-]+:\d+", following)
        given.append("--ray=auto" if alone else word)
    return given


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)  # noqa: T201
        raise typer.Exit
