"""The report as one HTML page: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from efiqa import __version__
from efiqa.errors import MissingExtra
from efiqa.evaluate import Evaluation
from efiqa.report.gallery import strips
from efiqa.report.plots import drawings
from efiqa.report.sections import Section


def render(evaluation: Evaluation, parts: Sequence[Section], *, gallery: bool) -> str:
    """The page's text. Raises MissingExtra without jinja2 or matplotlib."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("jinja2", extra="report") from error
    figures = drawings(evaluation)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = (resources.files("efiqa.report") / "page.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        parts=parts,
        figures={part.key: figures.get(part.key, []) for part in parts},
        strips=list(strips(evaluation)) if gallery else [],
        version=__version__,
    )
