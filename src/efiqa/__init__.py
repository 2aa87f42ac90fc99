"""efiqa: efficient face image quality assessment.

>>> import efiqa
>>> scorer = efiqa.Scorer()                        # the embedded student
>>> scorer.score("face.jpg")                       # doctest: +SKIP
0.7312
>>> for row in scorer.score_many(["a.jpg", "b.jpg"]):   # doctest: +SKIP
...     print(row.image, row.status, row.score)

Names are resolved on first use, so `import efiqa` loads neither numpy nor the runtime.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.3.0"

if TYPE_CHECKING:
    from efiqa.card import ModelCard as ModelCard
    from efiqa.errors import EfiqaError as EfiqaError
    from efiqa.faces import Box as Box
    from efiqa.faces import Face as Face
    from efiqa.image import load_image as load_image
    from efiqa.records import Prediction as Prediction
    from efiqa.scorer import Scorer as Scorer

_HOMES = {
    "Box": "faces",
    "EfiqaError": "errors",
    "Face": "faces",
    "ModelCard": "card",
    "Prediction": "records",
    "Scorer": "scorer",
    "load_image": "image",
}

__all__ = ["Box", "EfiqaError", "Face", "ModelCard", "Prediction", "Scorer", "load_image"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"efiqa.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'efiqa' has no attribute {name!r}")
