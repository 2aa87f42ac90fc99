"""The two tables of the system: manifests (Row) and predictions (Prediction), and their files."""

from __future__ import annotations

import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, astuple, dataclass, field, fields, make_dataclass, replace
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from efiqa.cells import number, numbers, whole, wholes
from efiqa.errors import RecordError
from efiqa.names import Files, printable, tar_of
from efiqa.tables import Block, read_blocks, read_places, table_format, uncollected
from efiqa.writing import atomic, csv_line, json_line, write_parquet, write_table

T = TypeVar("T")
Bounds = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of a manifest.

    `image` is a path, in the file relative to the manifest. `score` is a label in 0–1 or none.
    `split` is `train`, `validation` or `test` and is stored, never drawn at load. `source` says whose
    label it is: `human`, or a model's name@version. Rows of one `group` (person, scene) share a split.
    `x, y, width, height` is the square that is looked at, in pixels; none means the whole picture.
    `weight`, 0 or more, is how much the label counts in training: less where its teacher was unsure.
    """

    image: str
    score: float | None = None
    split: str = "train"
    source: str = ""
    group: str = ""
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    weight: float = 1.0

    @property
    def bounds(self) -> tuple[int, int, int, int] | None:
        """(left, top, right, bottom) in whole pixels, or none for the whole picture."""
        if self.x is None or self.y is None or self.width is None or self.height is None:
            return None
        left, top = round(self.x), round(self.y)
        return left, top, left + round(self.width), top + round(self.height)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One face of one picture, or one sentence about why there is none.

    `status` is `ok`, `no_face` or an error's name. `score` is the model's output (nominally 0–1,
    higher is better), `quality` its percentile (0–100) in the card's population. `x, y, width,
    height` is the face box in pixels of the upright picture, `detection` the detector's confidence
    in 0–1; they are empty where the picture itself was scored. `spread` is the standard deviation of
    the score over views of the same face, where more than one was scored. `low, high` is the interval that
    the card's measured coverage holds for. `decision` is `accept`, `review` or `reject` under a policy, and
    `reasons` the names of what speaks against the picture, worst first, joined by `;`. The others are
    efiqa.attributes, each 0–100, higher is better.
    """

    image: str
    face: int = 0
    status: str = "ok"
    score: float | None = None
    quality: float | None = None
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    detection: float | None = None
    message: str = ""
    spread: float | None = None
    low: float | None = None
    high: float | None = None
    decision: str | None = None
    reasons: str | None = None
    resolution: float | None = None
    sharpness: float | None = None
    exposure: float | None = None
    contrast: float | None = None
    lighting: float | None = None
    noise: float | None = None
    colour: float | None = None
    framing: float | None = None
    tilt: float | None = None


_FIELDS = tuple(field.name for field in fields(Prediction))
COLUMNS = _FIELDS[: _FIELDS.index("spread")]
"""What every file of predictions has; the other fields are written where they were asked for."""
ATTRIBUTES = _FIELDS[_FIELDS.index("resolution") :]
MANIFEST_COLUMNS = tuple(field.name for field in fields(Row))
SHARDS = "_shards.jsonl"
"""Of a data set in parts: what each part holds. Written last, so a folder that has it is whole."""
SPLITS = ("train", "validation", "test")
_TEXT = {"image", "status", "message", "split", "source", "group", "decision", "reasons"}
_KINDS = {name: str if name in _TEXT else int if name == "face" else float for name in _FIELDS}
_ROW_KINDS = {name: str if name in _TEXT else float for name in MANIFEST_COLUMNS}
_GROUP = MANIFEST_COLUMNS.index("group")


def _values(kinds: Mapping[str, type], cells: dict[str, Any], where: str) -> dict[str, Any]:
    """The cells that `kinds` names, of those kinds; others are left out."""
    values: dict[str, Any] = {}
    for name, value in cells.items():
        kind = kinds.get(name)
        if kind is None or value is None:
            continue
        if kind is str:
            values[name] = str(value)
        elif kind is float:
            values[name] = number(value, name, where)
        else:
            values[name] = whole(value, name, where)
    if not values.get("image"):
        raise RecordError(f"{where}: the image column is missing or empty")
    return values


def _columns(
    kind: type[Any], kinds: Mapping[str, type], block: Block
) -> tuple[list[Sequence[Any]], RecordError | None]:
    """A block's rows as a column for each field of `kind`, and what is wrong with the first row left out.

    Columns are taken whole; where one of them breaks a rule it is row by row, up to the one that does.
    """
    defaults = {each.name: "" if each.default is MISSING else each.default for each in fields(kind)}
    with suppress(ValueError):
        columns = [_column(block.column(name), kinds[name], default) for name, default in defaults.items()]
        if all(columns[0]):
            return columns, None
    rows, wrong = [], None
    for where, cells in block.rows():
        try:
            rows.append(_values(kinds, cells, where))
        except RecordError as error:
            wrong = error
            break
    return [[values.get(name, default) for values in rows] for name, default in defaults.items()], wrong


def _column(cells: Sequence[Any], kind: type, default: Any) -> Sequence[Any]:
    """Cells as a field's values. Raises ValueError where _values raises."""
    if cells.count(None) == len(cells):
        return [default] * len(cells)
    if kind is str:
        if not set(map(type, cells)) <= {str, type(None)}:
            cells = [None if cell is None else str(cell) for cell in cells]
        few = {text: text for text in set(cells)} | {None: default}
        return [few[text] for text in cells]  # equal ones as one: a million of them would be 50 MB
    values = numbers(cells) if kind is float else wholes(cells)
    return values if default is None else [default if value is None else value for value in values]


@cache
def _opened(kind: type[object]) -> Any:
    """An open class of the same slots as a frozen dataclass; see quick."""
    slots = [(each.name, each.type, field(default=each.default)) for each in fields(kind)]  # type: ignore[arg-type]
    return make_dataclass(kind.__name__, slots, slots=True)


def quick(kind: type[T]) -> Callable[..., T]:
    """Makes what `kind(**values)` makes, of a frozen dataclass, in a third of the time.

    Such a class sets each of its fields through object.__setattr__, which would be a third of the time to
    read a manifest. So they are set in an open class of the same slots, whose instance then becomes `kind`.
    """
    opened = _opened(kind)  # type: ignore[arg-type]

    def make(**values: Any) -> T:
        made = opened(**values)
        made.__class__ = kind
        return made  # type: ignore[no-any-return]

    return make


def _made(kind: type[T], columns: Iterable[Sequence[Any]]) -> list[T]:
    """An instance for each row of the columns, which are all fields of `kind`; made as quick does."""
    made: list[T] = list(map(_opened(kind), *columns))  # type: ignore[arg-type]
    for each in made:
        each.__class__ = kind
    return made


def read_predictions(path: Path) -> Iterator[Prediction]:
    """Predictions of any of the three formats, or of a data set's folder, in order, streaming.

    Raises RecordError for a folder that is no data set of efiqa, or one that lacks a part.
    """
    for table in parts_of(path) if path.is_dir() else [path]:
        for block in read_blocks(table, only=_KINDS):
            columns, wrong = _columns(Prediction, _KINDS, block)
            yield from _made(Prediction, columns)
            if wrong is not None:
                raise wrong


def parts_of(folder: Path) -> list[Path]:
    """The files of a data set that `efiqa score -o FOLDER/` wrote, in order. Raises as shards_of."""
    return [folder / cells["file"] for cells in shards_of(folder)]


def shards_of(folder: Path) -> list[dict[str, Any]]:
    """What a data set says of its parts, in order.

    Raises RecordError for a folder that is none, and for one that lacks a part.
    """
    shards = folder / SHARDS
    if not shards.is_file():
        raise RecordError(
            f"{printable(folder)} is no finished data set: it has no {SHARDS}",
            hint="the job that began it ends it, with --resume",
        )
    records = [json.loads(line) for line in shards.read_text(encoding="utf-8").splitlines()]
    for cells in records:
        if "file" not in cells:
            raise RecordError(
                f"{printable(folder)} lacks shard {cells['shard']}: {cells['error']}",
                hint="the same command with --resume tries it again",
            )
    return records


def read_manifest(path: Path, *, check_files: bool = False) -> list[Row]:
    """Rows of one manifest; see read_manifests."""
    return read_manifests([path], check_files=check_files)


@uncollected()
def read_manifests(paths: Iterable[Path], *, check_files: bool = False) -> list[Row]:
    """Rows of all manifests, in order, with `image` made a path from the working folder.

    A manifest that is named twice counts twice. Over all of them a picture stands in one split, and so
    does a group. Equal names are one group whatever manifest they stand in: copies and pseudo-labels keep
    the group of their original, but nothing else of it, so no narrower rule would see a person of the
    validation set come back in training. Two data sets that number their people alike are told apart
    where they are indexed, by `--group-prefix`; groups that are file names have their folder's by themselves.

    Raises RecordError, naming file, line and column, for a manifest without rows; a missing image; a
    number that is none or not finite; an unknown split; a label of source `human` outside 0–1; a weight
    below 0; half a square; one square of one picture with two labels in one manifest; a picture or group in
    two splits, with both places; and with `check_files` for pictures that are not there, with their number.
    Of one in a tar (`faces.tar/000.jpg`) the tar must be there.
    """
    rows: list[Row] = []
    starts: list[tuple[int, Path]] = []  # the number of each manifest's first row
    pictures = Files()  # a picture's number is that of its first row
    groups: dict[str, int] = {}
    for path in paths:
        labelled: dict[object, int] = {}  # only of pictures that come again
        start = len(rows)
        starts.append((start, path))
        for block in read_blocks(path, only=_ROW_KINDS):
            columns, wrong = _columns(Row, _ROW_KINDS, block)
            keys, columns[0] = pictures.located(columns[0], str(path.parent))
            first = len(rows)
            rows += _made(Row, columns)
            places = list(map(pictures.numbers.setdefault, keys, itertools.count(first)))
            ordinary = _ordinary(columns)
            if ordinary and places == list(range(first, len(rows))) and not any(columns[_GROUP]):
                places = []  # no row can break a rule
            for index, picture in enumerate(places, first):
                row, at = rows[index], index - first
                if not ordinary:
                    _check_row(row, block, at)
                if picture != index and row.score is not None:
                    if picture >= start and rows[picture].score is not None:
                        labelled.setdefault(_square(picture, rows[picture]), picture)
                    other = labelled.setdefault(_square(picture, row), index)
                    if other != index:
                        raise RecordError(
                            f"{block.place(at)}: image {row.image} has a label already, "
                            f"in {_place(starts, other)}",
                            hint="where people disagree, the mean of their ratings is the label",
                        )
                same = [("image", picture)]
                if row.group:
                    same.append(("group", groups.setdefault(row.group, index)))
                for column, other in same:
                    if rows[other].split != row.split:
                        place = _place(starts, other)
                        raise _in_two_splits(column, row, block.place(at), rows[other].split, place)
            if wrong is not None:
                raise wrong
        if len(rows) == start:
            raise RecordError(
                f"{path} holds no rows", hint="its first line names the columns, each other line is a picture"
            )
    if check_files:
        there = sorted(pictures)
        known: dict[str, bool] = {}  # by folder, as most pictures of a tar are in one

        def is_there(file: str) -> bool:
            if os.path.isfile(file):  # noqa: PTH113
                return True
            folder = os.path.dirname(file)  # noqa: PTH120
            if folder not in known:
                known[folder] = tar_of(f"{folder}/") is not None
            return known[folder]

        missing = [(index, file) for index, file in there if not is_there(file)]
        if missing:
            first, file = missing[0]
            raise RecordError(
                f"{_place(starts, first)}: image {printable(file)} is not there"
                f" ({len(missing):,} of {len(there):,} pictures are missing)",
                hint="the image column is relative to its manifest; were the pictures, or it, moved?",
            )
    return rows


def _place(starts: Sequence[tuple[int, Path]], index: int) -> str:
    """Where a row stands, read again: to keep a million places, hardly ever asked for, takes longer."""
    start, path = max(each for each in starts if each[0] <= index)
    return next(itertools.islice(read_places(path, only=()), index - start, None))[0]


def _square(picture: int, row: Row) -> object:
    return picture, row.x, row.y, row.width, row.height


def _ordinary(columns: Sequence[Sequence[Any]]) -> bool:
    """Whether _check_row would find nothing: these columns of all rows take a tenth of its time."""
    cells = dict(zip(MANIFEST_COLUMNS, columns, strict=True))
    scores = [score for score in cells["score"] if score is not None]
    sides = {cells[name].count(None) for name in ("x", "y", "width", "height")}
    return (
        set(cells["split"]) <= set(SPLITS)
        and 0 <= min(scores, default=0) <= max(scores, default=1) <= 1
        and min(cells["weight"], default=1) >= 0
        and sides in ({0}, {len(cells["image"])})
    )


def _check_row(row: Row, block: Block, at: int) -> None:
    if row.split not in SPLITS:
        raise RecordError(
            f"{block.place(at)}: split must be one of {', '.join(SPLITS)}, but got {row.split!r}"
        )
    if row.source == "human" and row.score is not None and not 0 <= row.score <= 1:
        raise RecordError(
            f"{block.place(at)}: score must be in 0–1, but got {row.score}",
            hint="efiqa index --range LOW HIGH rescales ratings",
        )
    if row.weight < 0:
        raise RecordError(f"{block.place(at)}: weight must be 0 or more, but got {row.weight}")
    if (row.x, row.y, row.width, row.height).count(None) not in (0, 4):
        raise RecordError(f"{block.place(at)}: x, y, width, height must all be given, or none of them")


def _in_two_splits(column: str, row: Row, where: str, split: str, first: str) -> RecordError:
    return RecordError(
        f"{where}: {column} {getattr(row, column)!r} stands in two splits: "
        f"{row.split} here, {split} in {first}",
        hint="if they share only the name, index each data set with a --group-prefix of its own"
        if column == "group"
        else "index the pictures once, or with the same --seed and --validation",
    )


def write_manifest(path: Path, rows: Iterable[Row]) -> int:
    """Write rows, `image` being a path from the working folder, as a CSV; atomic. Returns their number.

    Raises RecordError for another ending than .csv, or a file name that is not UTF-8.
    """
    if table_format(path) != ".csv":
        raise RecordError(f"{path}: a manifest is written as .csv, but got {path.suffix!r}")
    count = 0
    with atomic(path) as file:
        file.write(csv_line(MANIFEST_COLUMNS))
        for row in rows:
            image = os.path.relpath(row.image, path.parent)
            if image != printable(image):
                raise RecordError(
                    f"{printable(image)}: its name is not UTF-8, so no manifest can hold it",
                    hint="rename the file",
                )
            file.write(csv_line(astuple(replace(row, image=image))))
            count += 1
    return count


def write_predictions(path: Path, rows: Iterable[Prediction], *, more: Sequence[str] = ()) -> int:
    """Write COLUMNS and `more` fields in the format of the path's ending; atomic. Returns how many."""
    names = (*COLUMNS, *more)
    return write_table(path, {name: _KINDS[name] for name in names}, map(attrgetter(*names), rows))


def predictions_parquet(rows: Iterable[Prediction], *, more: Sequence[str] = ()) -> bytes:
    """What write_predictions writes as .parquet, in memory."""
    names, file = (*COLUMNS, *more), io.BytesIO()
    write_parquet(file, {name: _KINDS[name] for name in names}, map(attrgetter(*names), rows))
    return file.getvalue()


def prediction_line(row: Prediction, *, more: Sequence[str] = ()) -> str:
    """One JSON object on one line, COLUMNS and `more` fields."""
    names = (*COLUMNS, *more)
    return json_line(names, attrgetter(*names)(row))
