"""Every error efiqa raises on purpose.

EfiqaError
├── ImageError            one picture cannot be used; its `status` stands in the predictions
│   ├── ImageNotFound         not_found
│   ├── NotAFile              not_a_file
│   ├── ImageUnreadable       unreadable
│   ├── EmptyImage            empty
│   ├── NotAnImage            not_an_image
│   ├── CorruptImage          corrupt
│   ├── ImageTooLarge         too_large
│   ├── ImageTooSmall         too_small
│   ├── ShardUnreadable       incomplete: the rest of an archive, after which its row is named
│   ├── TooManyFaces          too_many_faces
│   └── Killed                killed: it ended the process that scored it
├── InvalidArgument       an array, option or value of the wrong kind, shape or range
├── ModelError            a model file that does not explain itself, or contradicts its card
├── RecordError           a manifest, prediction or recipe file that breaks its format
├── OutputError           a result that cannot be written
├── WorkerError           a process that scores and cannot be started
├── TrainingError         a training run that cannot start or go on
└── MissingExtra          an optional dependency that is not installed
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar


class EfiqaError(Exception):
    """Base of all errors a user can meet. `hint`, where there is one, says what to do next."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ImageError(EfiqaError):
    """A picture that cannot be scored. `status` is its name in the predictions."""

    status: ClassVar[str] = "image_error"


class ImageNotFound(ImageError):
    status = "not_found"


class NotAFile(ImageError):
    status = "not_a_file"


class ImageUnreadable(ImageError):
    status = "unreadable"


class EmptyImage(ImageError):
    status = "empty"


class NotAnImage(ImageError):
    status = "not_an_image"


class CorruptImage(ImageError):
    status = "corrupt"


class ImageTooLarge(ImageError):
    status = "too_large"


class ImageTooSmall(ImageError):
    status = "too_small"


class ShardUnreadable(ImageError):
    status = "incomplete"


class TooManyFaces(ImageError):
    status = "too_many_faces"


class Killed(ImageError):
    status = "killed"


class InvalidArgument(EfiqaError, ValueError):
    pass


class ModelError(EfiqaError):
    pass


class RecordError(EfiqaError):
    pass


class OutputError(EfiqaError):
    pass


class WorkerError(EfiqaError):
    pass


class TrainingError(EfiqaError):
    pass


class MissingExtra(EfiqaError, ImportError):
    """`MissingExtra("pyarrow", extra="parquet")` tells the user what to install."""

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(
            f"this needs the package {package!r}, which is not installed",
            hint=f'pip install "efiqa[{extra}]"',
        )
        self._made_of = package, extra

    def __reduce__(self) -> tuple[Callable[[str, str], MissingExtra], tuple[str, str]]:
        return _missing_extra, self._made_of


def _missing_extra(package: str, extra: str) -> MissingExtra:
    """One that comes from another process."""
    return MissingExtra(package, extra=extra)
