"""Who may import whom, and what an import loads."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import efiqa

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "efiqa"
LEVELS = [
    ["client", "errors"],
    ["cells", "cores", "names", "settings", "tables", "writing"],
    ["card", "cuda_runtime", "image", "metrics", "onnx_runtime", "openvino_runtime", "records", "runtime"],
    ["stores"],
    ["shards"],
    [
        "agreement",
        "attributes",
        "baselines",
        "bench",
        "calibrate",
        "capacity",
        "conformal",
        "dataset",
        "degrade",
        "discard",
        "drift",
        "engine",
        "entrants",
        "evaluate",
        "faces",
        "groups",
        "index",
        "journal",
        "label",
        "labels",
        "ladders",
        "matching",
        "nonmatch",
        "pairs",
        "pictures",
        "policy",
        "probe",
        "quantize",
        "recognition",
        "report",
        "resampling",
        "scorer",
        "scores",
        "sources",
        "tasks",
        "threshold",
        "vary",
        "views",
        "watch",
        "workers",
    ],
    ["train"],
    ["scale", "serve"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
}


def imported(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, wherever it stands in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out, from efiqa.…"
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_module_imports_from_its_own_level_and_below_only(name: str):
    home = name.split(".")[0]
    for other in imported(FILES[name]):
        package, _, rest = other.partition(".")
        part = rest.split(".")[0]
        if package == "efiqa" and not part.startswith("__"):
            assert LEVEL[part] <= LEVEL[home], f"{name} imports {other}"


@pytest.mark.parametrize(
    ("library", "home"),
    [
        ("torch", r"train\."),
        ("torchvision", r"train\."),
        ("timm", r"train\.backbones$"),
        ("safetensors", r"train\."),
        ("onnx", r"train\.|quantize$"),
        ("onnxruntime", r"onnx_runtime$|quantize$"),
        ("openvino", r"openvino_runtime$"),
        ("openvino_telemetry", r"nowhere"),
        ("fastapi", r"serve\b"),
        ("uvicorn", r"serve\."),
        ("prometheus_client", r"serve\.metrics$|watch$"),
        ("httpx2", r"client$"),
        ("ray", r"scale$"),
        ("fsspec", r"stores$"),
        ("cv2", r"faces$"),
        ("typer", r"cli\b"),
        ("rich", r"cli\b"),
        ("pyarrow", r"tables$"),
        ("jinja2", r"report\."),
    ],
)
def test_a_heavy_library_is_imported_at_home_only(library: str, home: str):
    users = [
        name for name, path in FILES.items() if library in {word.split(".")[0] for word in imported(path)}
    ]
    assert [name for name in users if not re.match(home, name)] == []


def test_no_module_is_called_a_drawer():
    drawers = {"utils", "helpers", "common", "base", "core", "manager"}
    assert not drawers & {part for name in FILES for part in name.split(".")}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.decode().split()
    )


def test_importing_efiqa_loads_no_library():
    heavy = {"torch", "timm", "numpy", "onnxruntime", "PIL", "typer", "rich", "cv2", "pyarrow", "onnx", "ray"}
    assert not heavy & loaded_by("import efiqa")


def test_importing_the_scorer_loads_no_torch():
    loaded = loaded_by("from efiqa import Scorer")
    assert "onnxruntime" in loaded
    assert not {"torch", "timm", "typer", "rich", "cv2", "pyarrow", "onnx"} & loaded


def test_starting_the_command_loads_no_runtime():
    assert not {"torch", "numpy", "onnxruntime", "PIL", "pyarrow"} & loaded_by("import efiqa.cli")


def test_importing_prints_nothing():
    code = "import efiqa; from efiqa import Scorer, load_image; import efiqa.cli"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, check=True)
    assert (result.stdout, result.stderr) == (b"", b"")


def test_the_public_names_are_sorted_and_resolve():
    assert efiqa.__all__ == sorted(efiqa.__all__)
    for name in efiqa.__all__:
        assert getattr(efiqa, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'score'"):
        efiqa.score  # noqa: B018


def test_every_public_name_is_known_to_type_checkers():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    names = {
        name.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names
    }
    assert set(efiqa.__all__) <= names


def test_the_version_is_written_once():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["dynamic"] == ["version"]
    home = (ROOT / settings["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    assert re.findall(r'^__version__ = "(\d+\.\d+\.\d+)"$', home, re.MULTILINE) == [efiqa.__version__]


def test_scoring_leaves_nothing_in_the_home_folder(tmp_path: Path):
    portrait = Path(__file__).parents[1] / "examples" / "samples" / "astronaut.jpg"
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    command = [sys.executable, "-m", "efiqa", "score", str(portrait)]
    subprocess.run(command, env=environment, check=True, capture_output=True, cwd=tmp_path)
    assert not list(home.rglob("*"))
