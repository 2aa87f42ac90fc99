"""What `efiqa probe` wrote, read back for a report."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efiqa.errors import RecordError
from efiqa.probe import Ladder, Probe


def read_probes(paths: Sequence[Path]) -> list[Probe]:
    """The scorers of all files, in order.

    Raises RecordError for a file that cannot be read or is not what efiqa.probe.as_json gives, with what is
    wrong in it, and for a scorer that stands in two places.
    """
    probes: dict[str, Probe] = {}
    for path in paths:
        for each in _read(path):
            if each.name in probes:
                raise RecordError(
                    f"{path}: {each.name} was probed already, so one of its numbers would hide the other",
                    hint="name each scorer's probe once; evaluate another set of faces apart",
                )
            probes[each.name] = each
    return list(probes.values())


def _read(path: Path) -> list[Probe]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = [_probe(each) for each in content["scorers"]]
        if not found:
            raise ValueError("it has no scorers")
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        wrong = str(error)
        if isinstance(error, KeyError):
            wrong = f"{error} is missing"
        elif isinstance(error, TypeError | RecursionError | OverflowError):  # which would speak of Python
            wrong = "it is built otherwise"
        raise RecordError(
            f"{path} is no output of efiqa probe: {wrong}",
            hint="efiqa probe MANIFEST -o probe.json writes one",
        ) from error
    return found


def _probe(each: dict[str, Any]) -> Probe:
    severities = _numbers(each["severities"], "severities")
    if len(severities) < 2 or any(low >= high for low, high in itertools.pairwise(severities)):
        raise ValueError(f"severities must rise, but are {list(severities)}")
    ladders = []
    for ladder in each["ladders"]:
        means = _numbers(ladder["means"], "means")
        violations = _numbers(ladder["violations"], "violations")
        if (len(means), len(violations)) != (len(severities), len(severities) - 1):
            raise ValueError(
                f"{len(severities)} severities have as many means and one violation less, but "
                f"{ladder['kind']} has {len(means)} and {len(violations)}"
            )
        if not all(0 <= share <= 1 for share in violations):
            raise ValueError(f"violations must be shares in 0–1, but are {list(violations)}")
        ladders.append(Ladder(str(ladder["kind"]), means, violations))
    if not ladders:
        raise ValueError(f"{each['name']} has no ladders")
    faces, spread = _numbers([each["faces"], each["spread"]], "faces and spread")
    return Probe(str(each["name"]), int(faces), spread, severities, tuple(ladders))


def _numbers(values: Sequence[Any], name: str) -> tuple[float, ...]:
    """Raises ValueError or TypeError for what is not finite numbers."""
    found = tuple(map(float, values))
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{name} must be finite, but are {list(values)}")
    return found
