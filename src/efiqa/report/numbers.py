"""The numbers of an evaluation, as JSON holds them: what is not known is null, never NaN."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from efiqa import __version__
from efiqa.evaluate import Evaluation
from efiqa.recognition import LIMIT, SHARES


def numbers(evaluation: Evaluation) -> dict[str, Any]:
    """Everything but the pictures' own scores, which stand in the predictions."""
    recognition = evaluation.recognition
    return {
        "efiqa": __version__,
        "pictures": len(evaluation.rows),
        "rated": int(np.isfinite(evaluation.rating).sum()),
        "split": evaluation.split,
        "scorers": [
            {
                "name": entrant.name,
                "column": entrant.column,
                "scored": int(entrant.scored.size),
                "failed": entrant.failed,
                "missing": entrant.missing,
                "others": entrant.others,
                "quantiles": [float(at) for at in np.quantile(entrant.scored, [0, 0.25, 0.5, 0.75, 1])]
                if entrant.scored.size
                else None,
            }
            for entrant in evaluation.entrants
        ],
        "agreement": {
            "pictures": evaluation.compared,
            "scorers": {name: dataclasses.asdict(one) for name, one in evaluation.agreement.items()},
            "comparisons": [dataclasses.asdict(each) for each in evaluation.comparisons],
        }
        if evaluation.agreement
        else None,
        "recognition": dataclasses.asdict(recognition)
        | {"shares": SHARES.tolist(), "limit": LIMIT, "fmr": recognition.threshold.fmr}
        if recognition
        else None,
        "groups": {
            column: {name: dataclasses.asdict(each) for name, each in found.items()}
            for column, found in evaluation.groups.items()
        },
        "probes": [
            dataclasses.asdict(each)
            | {"ladders": [dataclasses.asdict(ladder) | {"wrong": ladder.wrong} for ladder in each.ladders]}
            for each in evaluation.probes
        ],
        "notes": list(evaluation.notes),
    }
