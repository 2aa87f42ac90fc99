"""What is under deploy/ says what the command and its service understand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

import typer.main

from efiqa.cli import app
from efiqa.scorer import Scorer
from efiqa.serve import Limits, create_app

FOLDER = Path(__file__).parents[1] / "deploy"
FILES = ("Containerfile", "efiqa.service", "kubernetes.yaml")
DRAIN_S, LEAVE_S = 3, 60
"""Seconds of --drain, and those that the server leaves clients beyond its own limits."""


def text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_its_options_are_those_of_the_command(name: str):
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    lines = [line for line in text(name).splitlines() if "efiqa serve" in line or '"--' in line]
    used = set(re.findall(r"(?<![\w-])--[a-z-]+", "\n".join(lines)))
    assert used & known, "no option at all was found"
    assert used <= known


@pytest.mark.parametrize("name", ["Containerfile", "kubernetes.yaml"])
def test_its_probes_ask_for_what_the_service_answers(name: str, model: Path):
    service = create_app([Scorer(model, workers=1)])
    asked = set(re.findall(r"path: (/\w+)|127\.0\.0\.1:8000(/\w+)", text(name)))
    paths = {path for pair in asked for path in pair if path}
    assert paths
    assert paths <= set(service.openapi()["paths"])


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("efiqa.service", r"TimeoutStopSec=(\d+)"),
        ("kubernetes.yaml", r"terminationGracePeriodSeconds: (\d+)"),
    ],
)
def test_a_service_is_given_the_time_that_it_may_take_to_finish(name: str, pattern: str):
    limits = Limits()
    pause = re.search(r'"sleep", "(\d+)"', text(name))
    needed = DRAIN_S + limits.read_timeout + limits.timeout + LEAVE_S + (int(pause[1]) if pause else 0)
    given = re.search(pattern, text(name))
    assert given is not None
    assert int(given[1]) >= needed


def test_the_image_runs_as_nobody_and_takes_only_what_it_needs():
    lines = text("Containerfile").splitlines()
    last = max(at for at, line in enumerate(lines) if line.startswith("FROM"))
    users = [line.split()[1] for line in lines[last:] if line.startswith("USER")]
    assert users == ["65532:65532"]
    ignored = (FOLDER.parent / ".dockerignore").read_text(encoding="utf-8").split()
    assert "*" in ignored
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY") and "--from" not in line]
    assert {source for sources in copied for source in sources} == {
        line[1:] for line in ignored if line.startswith("!")
    }
