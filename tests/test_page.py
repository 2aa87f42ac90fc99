"""The page counts as the package does: golden files that both suites read, and the page in a real browser."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from efiqa.attributes import ADVICE
from efiqa.records import read_predictions

if TYPE_CHECKING:
    from conftest import Service

ROOT = Path(__file__).parents[1]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "golden.json").read_text(encoding="utf-8"))
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
STALE = "run python tests/golden/make.py if this change is meant"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", ROOT / "tests" / "golden" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_golden_files_are_what_the_package_makes_now(make: ModuleType):
    now = json.loads(json.dumps(make.golden()))
    assert now["resizes"] == GOLDEN["resizes"], STALE
    assert (now["crops"], now["part"]) == (GOLDEN["crops"], GOLDEN["part"]), STALE
    for name, known in GOLDEN["pictures"].items():
        rows = now["pictures"][name]["rows"]
        assert [row["status"] for row in rows] == [row["status"] for row in known["rows"]], name
        for row, expected in zip(rows, known["rows"], strict=True):
            if row["status"] == "ok":
                assert row["score"] == pytest.approx(expected["score"], abs=1e-3), f"{name}: {STALE}"


def test_the_page_knows_the_package_as_it_is(make: ModuleType):
    known = json.loads((ROOT / "page" / "src" / "known.json").read_text(encoding="utf-8"))
    assert make.known() == known, STALE


def test_the_page_gives_the_advice_of_the_package():
    texts = json.loads((ROOT / "page" / "src" / "en.json").read_text(encoding="utf-8"))
    said = {name: texts.get(f"advice.{name}") for name in ADVICE if name != "exposure"}
    assert said == {name: advice for name, advice in ADVICE.items() if name != "exposure"}


def missing() -> str | None:
    """What a browser test needs and this machine has not; see scripts/browser."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return "node and npm are not installed: the page cannot be built"
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, said.strip().lstrip("v").split(".")[:2])) < (20, 19):
        return f"node is {said.strip()}: the page is built with 20.19 or newer"
    return None if Path(CHROMIUM).exists() else f"there is no Chromium at {CHROMIUM} (see CHROMIUM)"


def test_the_page_works_in_chromium_and_its_csv_is_read_here(serve: type[Service], tmp_path: Path):
    pytest.importorskip("fastapi")
    if reason := missing():
        pytest.skip(reason)
    subprocess.run([ROOT / "scripts" / "page"], check=True)
    with serve("--page", "-q") as service:
        done = subprocess.run(
            ["npm", "test", "--silent"],
            cwd=ROOT / "page",
            env={**os.environ, "PAGE_OUT": str(tmp_path), "PAGE_SERVICE": service.url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert service.stop() == 0
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    rows = {(row.image, row.face): row for row in read_predictions(tmp_path / "scores.csv")}
    expected = [(Path(name).name, row) for name, known in GOLDEN["pictures"].items() for row in known["rows"]]
    assert len(rows) == len(expected)
    for name, row in expected:
        found = rows[name, row["face"]]
        assert found.status == row["status"]
        if row["score"] is not None:
            assert found.score == pytest.approx(row["score"], abs=0.01)
