"""A stage of a study is made once, gone on with after an interruption, and never thrown away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[1] / "recipes"
Stage = Callable[..., list[str]]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Runs one stage whose command appends to its output; returns what it said, without times."""
    (tmp_path / "input.csv").write_text("a\n")
    (tmp_path / "recipe.toml").write_text("# why\nlr = 1\n")

    def run(*, output: str = "made", command: str = "echo x >> made", code: int = 0) -> list[str]:
        script = (
            f'set -eu; runs=.; python="{sys.executable}"; . "{RECIPES / "stage.sh"}"; '
            f"stage {output} 'input.csv recipe.toml' sh -c '{command}'"
        )
        done = subprocess.run(
            ["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stderr
        return [line.split("   (")[0] for line in done.stdout.splitlines()]

    return run


def test_what_was_made_from_the_same_contents_is_not_made_again(stage: Stage, tmp_path: Path) -> None:
    assert stage() == ["> made"]
    assert stage() == ["= made"]
    assert (tmp_path / "made").read_text() == "x\n"


def test_another_comment_in_a_recipe_changes_nothing(stage: Stage, tmp_path: Path) -> None:
    stage()
    (tmp_path / "recipe.toml").write_text("# a better reason\n\nlr = 1\n")
    assert stage() == ["= made"]


@pytest.mark.parametrize(("name", "text"), [("input.csv", "b\n"), ("recipe.toml", "# why\nlr = 2\n")])
def test_other_contents_are_made_anew_and_what_was_there_is_kept(
    stage: Stage, tmp_path: Path, name: str, text: str
) -> None:
    stage(command="echo first >> made")
    (tmp_path / name).write_text(text)
    said = stage(command="echo first >> made")
    assert said == ["  made was made from something else: it is made.old now", "> made"]
    assert (tmp_path / "made").read_text() == "first\n"
    assert (tmp_path / "made.old").read_text() == "first\n"
    assert stage(command="echo first >> made") == ["= made"]


def test_of_what_git_has_no_second_copy_is_kept(stage: Stage, tmp_path: Path) -> None:
    stage()
    for command in (["init", "-q"], ["add", "made"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "input.csv").write_text("b\n")
    assert stage() == ["> made"]
    assert not (tmp_path / "made.old").exists()


def test_a_stage_that_failed_goes_on_with_what_it_had_begun(stage: Stage, tmp_path: Path) -> None:
    command = "echo x >> made; [ $(wc -l < made) -gt 1 ]"
    assert stage(command=command, code=1) == ["> made"]
    assert stage(command=command) == ["> made"]
    assert (tmp_path / "made").read_text() == "x\nx\n"
    assert stage(command=command) == ["= made"]


def test_a_table_keeps_the_folder_of_pictures_that_lies_beside_it(stage: Stage, tmp_path: Path) -> None:
    command = "mkdir -p set; touch set/1.png; echo x > set.csv"
    stage(output="set.csv", command=command)
    (tmp_path / "input.csv").write_text("b\n")
    assert len(stage(output="set.csv", command=command)) == 3
    assert sorted(path.name for path in tmp_path.glob("set*")) == ["set", "set.csv", "set.csv.old", "set.old"]


def test_the_journal_of_a_job_on_other_inputs_is_set_aside(stage: Stage, tmp_path: Path) -> None:
    stage(output="a.csv", command="touch .a.csv.journal; false", code=1)
    (tmp_path / "input.csv").write_text("b\n")
    stage(output="a.csv", command="[ ! -e .a.csv.journal ] && touch a.csv")
    assert (tmp_path / ".a.csv.journal.old").exists()


def test_an_output_that_is_gone_is_made_again(stage: Stage, tmp_path: Path) -> None:
    stage()
    (tmp_path / "made").unlink()
    assert stage() == ["> made"]


def test_an_input_that_is_not_there_stops_before_the_command(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "input.csv").unlink()
    stage(code=1)
    assert not (tmp_path / "made").exists()
