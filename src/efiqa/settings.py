"""TOML ⇄ frozen dataclasses: recipes, policies. An unknown key is an error that names the nearest."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efiqa.errors import RecordError


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The file's table. Raises RecordError, which calls it `what` (a recipe), for one that is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{what} {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(
            f"{what} {path}: {error}", hint='text in TOML stands in quotes: name = "visa desk"'
        ) from error


def from_table(kind: type[Any], table: object, where: str) -> Any:
    """`table` as the dataclass `kind`, whose fields may be dataclasses themselves.

    Raises RecordError for an unknown key, a missing one and a value of the wrong type; `where` begins the
    message and the key's full name follows it.
    """
    if not isinstance(table, dict):
        raise RecordError(f"{where} must be a table, but got {table!r}")
    hints = typing.get_type_hints(kind)
    for key in table:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.4)
            raise RecordError(
                f"{where}: unknown key {key!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(hints)}",
            )
    needed = [
        item.name
        for item in dataclasses.fields(kind)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    for key in needed:
        if key not in table:
            raise RecordError(f"{where}: {key!r} is missing")
    return kind(**{key: _value(hints[key], value, f"{where}.{key}") for key, value in table.items()})


def _value(kind: Any, value: object, where: str) -> object:
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return from_table(typing.cast(type[Any], kind), value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is typing.Literal and value in arguments:
        return value
    if origin is types.UnionType:  # something, or none, which TOML cannot say
        return _value(arguments[0], value, where)
    if kind is float and type(value) in (int, float):
        return float(typing.cast(float, value))
    if origin is None and type(value) is kind:
        return value
    expected = kind.__name__ if origin is None else str(kind).replace("typing.", "")
    raise RecordError(f"{where} must be {expected}, but got {value!r}")


def to_toml(table: Mapping[str, Any], within: str = "") -> str:
    """TOML of text, finite numbers, truth values, lists of them and tables in tables; none is left out.

    Keys are words of letters, digits, - and _. `within` is the full name of a table inside another.
    """
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping | None)}
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in plain.items())
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            text += f"\n[{within}{key}]\n{to_toml(value, f'{within}{key}.')}"
    return text


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    # A TOML string is a JSON one, but for the control character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
