"""An evaluation as report.json, report.md and report.html, one page that opens without a network."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from efiqa.errors import MissingExtra
from efiqa.evaluate import Evaluation
from efiqa.report.numbers import numbers
from efiqa.report.sections import markdown, sections
from efiqa.writing import atomic


def check_page() -> None:
    """Raise MissingExtra now, not after the work, where the page cannot be made; load what makes it.

    Loading matplotlib leaves cycles behind that hold the frames it is called from, and all that these hold.
    """
    for package in ("jinja2", "matplotlib"):
        if find_spec(package) is None:
            raise MissingExtra(package, extra="report")
    import matplotlib.figure  # noqa: F401


def write_report(evaluation: Evaluation, folder: Path, *, page: bool = True, gallery: bool = True) -> str:
    """Write the files into `folder`, which is made, each whole or not at all; returns the Markdown.

    Without `page` there is no report.html. `gallery` shows small pictures of faces in it. Raises OutputError
    where a file cannot be written, MissingExtra for a page without matplotlib and jinja2.
    """
    parts = sections(evaluation)
    text = markdown(parts)
    html = None
    if page:
        from efiqa.report.page import render

        html = render(evaluation, parts, gallery=gallery)
    with atomic(folder / "report.json") as file:
        json.dump(numbers(evaluation), file, ensure_ascii=False, allow_nan=False, indent=1)
        file.write("\n")
    with atomic(folder / "report.md") as file:
        file.write(text)
    if html is not None:
        with atomic(folder / "report.html") as file:
            file.write(html)
    return text
