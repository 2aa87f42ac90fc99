"""Scorer: one model, the network that runs it, and its card. The one scoring path, whoever scores."""

from __future__ import annotations

import functools
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from efiqa.attributes import Attributes, measure, reasons
from efiqa.calibrate import Calibration
from efiqa.card import CENTRE_RULE, RESIZE_RULE
from efiqa.cores import available_cores
from efiqa.errors import ImageError, ImageTooSmall, InvalidArgument, ModelError, TooManyFaces
from efiqa.faces import BlazeFace, Detector, Face, face_crop, load_detector
from efiqa.image import (
    MAX_PIXELS,
    Decoded,
    Source,
    crop,
    decode_reduced,
    load_image,
    resize,
    resize_and_crop,
    size_of,
)
from efiqa.names import printable
from efiqa.policy import Policy, bind, decide
from efiqa.records import ATTRIBUTES, Prediction
from efiqa.runtime import Precision, Runtime, find_model, open_model
from efiqa.sources import Named
from efiqa.views import VIEWS

Faces = Literal["all", "largest", "none"]

MIN_SIDE = 8
"""Pictures with a shorter side below this, in pixels, hold nothing to judge and are refused."""
SMALL_FACE = 32
"""Faces whose longer side is below this, in pixels, are scored with a note: mostly resampling is judged."""
ENOUGH = 3
"""A large JPEG is decoded smaller where what is judged keeps this many times the model's input size each way.
What that does to scores stands in docs/performance.md."""
ENOUGH_WHOLE = 576
"""Pixels each way that a whole picture keeps in any case: with less, scores of the smallest model move."""
ENOUGH_TO_DETECT = 1024
"""Its shorter side in pixels where faces are to be found: what the detector looks at is no larger."""
SPARE = 1
"""Pictures at a time beyond one a core: it works while another waits for its runtime or Python's lock."""
IN_FLIGHT = 4
"""Pictures at a time for each core where a GPU scores: those that wait for it need no core."""
SCORE_DIGITS = 5
"""Digits kept of a score. Runtimes and processors differ from the sixth on."""
DEFAULT_COVERAGE = 0.9
"""Of the intervals where only intervals are asked for."""


RESIZE = {RESIZE_RULE: resize, CENTRE_RULE: resize_and_crop}
"""What brings a picture to a model's input size, by the rule in its card."""


class Scorer:
    """Scores faces with one model; safe to share between threads.

    `model` is the path of an ONNX file with a card, or the name of a model that ships (`efiqa info --list`).

    `threads` work inside one network run, `workers` pictures are decoded and scored at a time by
    `score_many`; by default one thread each, and one worker more than there are cores to use. Every
    picture runs through the network alone, so its score depends on its bytes only: not on `threads`,
    `workers`, neighbours or order. On a CPU batching would not be faster. More threads than there are usable
    cores are as many as there are.

    `runtime` is `onnxruntime`, `openvino` (the extra of that name), `cuda` (a GPU, by the package
    onnxruntime-gpu), or `auto`: OpenVINO where it is installed and can run the model. Their scores in fp32
    agree to 1e-4. `precision` bf16 is OpenVINO's, faster, and moves scores; see docs/performance.md. `opened`
    says what runs.

    On a GPU the pictures of several workers run in one batch, with four workers a core by default. Which
    neighbours a picture had can move its score by rounding, 1e-4 at most.

    With a `calibration`, quality is relative to its population instead of the card's, or on the scale of
    the model it is linked to. With a `coverage`, rows have the card's interval of that coverage in `low`,
    `high`; a `policy` gives them a `decision` and `reasons`, and the interval of its own coverage, where
    it has one and the card too.

    With `attributes`, and with a policy, rows have efiqa.attributes, and in `reasons` what speaks against the
    face: under a policy what it says, else the attributes below 50.

    With `views`, names of `efiqa.views.VIEWS`, a score is the mean over the face crop itself and its
    views, each run through the network, and a prediction's `spread` their (population) standard deviation.

    A picture of more than `max_pixels` pixels is not decoded, and of one with more than `max_faces` faces
    none is scored, unless only the largest was asked for: what one picture can cost has a bound.

    Raises ModelError for a file that is no model, has no card, or contradicts it, for a calibration or policy
    of another model, a coverage where the card has no intervals, and a GPU that is not there, InvalidArgument
    for an unknown view and a coverage that it has not, MissingExtra for a runtime that is not installed.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        detector: str | Detector = "blazeface",
        threads: int = 1,
        workers: int | None = None,
        views: Sequence[str] = (),
        calibration: Calibration | None = None,
        coverage: float | None = None,
        policy: Policy | None = None,
        attributes: bool = False,
        runtime: Runtime = "auto",
        precision: Precision = "fp32",
        max_pixels: int = MAX_PIXELS,
        max_faces: int | None = None,
    ) -> None:
        numbers = {"threads": threads, "workers": workers, "max_pixels": max_pixels, "max_faces": max_faces}
        for name, value in numbers.items():
            if value is not None and value < 1:
                raise InvalidArgument(f"{name} must be at least 1, but got {value}")
        for name in views:
            if name not in VIEWS:
                raise InvalidArgument(f"unknown view {name!r}", hint=f"there are {', '.join(VIEWS)}")
        self.threads = min(threads, available_cores())
        together = available_cores() // self.threads
        self.workers = workers or (together * IN_FLIGHT if runtime == "cuda" else together + SPARE)
        self.views = tuple(dict.fromkeys(views))
        self.max_pixels, self.max_faces = max_pixels, max_faces
        self._detector = detector
        self.opened = open_model(
            find_model(model), self.threads, workers=self.workers, runtime=runtime, precision=precision
        )
        self.card, self.digest, self.network = self.opened.card, self.opened.digest, self.opened.network
        if calibration is not None:
            calibration.check(self.card, self.digest)
        self.calibration = calibration
        self.policy = None if policy is None else bind(policy, self.card, self.digest, calibration)
        self.coverage = self._covered(coverage)
        self.attributes = attributes or policy is not None
        self._detect = functools.cache(self._load_detector)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int = 1, workers: int | None = None) -> Scorer:
        """A scorer for another model than the embedded one."""
        return cls(path, threads=threads, workers=workers)

    def _covered(self, coverage: float | None) -> float | None:
        """The coverage that rows have intervals of; none where nobody asks, or only a policy in vain."""
        interval = self.card.interval
        if interval is None:
            if coverage is not None:
                raise ModelError(
                    f"the model {self.card.source} has no intervals in its card",
                    hint="efiqa export --ratings MANIFEST --rated PREDICTIONS measures and writes them",
                )
            return None
        if self.policy is not None:
            coverage = self.policy.coverage or coverage or DEFAULT_COVERAGE
        if coverage is not None:
            interval.around(0, coverage)
        return coverage

    def _load_detector(self) -> Detector:
        return load_detector(self._detector) if isinstance(self._detector, str) else self._detector

    def score(self, image: Source) -> float:
        """Score of a picture that is a face crop already; nominally 0–1, higher is better.

        Raises ImageError for a picture that cannot be used, InvalidArgument for one that is none, ModelError
        where the model gives NaN or infinity.
        """
        return self._judge(self._whole(image))[0]

    def score_batch(self, images: Sequence[Source]) -> NDArray[np.float32]:
        """Scores of face crops as float32 (n,); raises as `score` does, at the first that cannot be used."""
        return np.array([self.score(image) for image in images], np.float32)

    def score_many(
        self, images: Iterable[Source | Named], *, faces: Faces = "all", workers: int | None = None
    ) -> Iterator[Prediction]:
        """Predictions of many pictures: lazily, in order, at least one each; a bad one has its reason.

        At most a few pictures per worker are read ahead, so memory does not grow with their number.
        A picture that is no path is named by its position: `#0`, `#1`, …
        """
        for rows in self.predict_many(images, faces=faces, workers=workers):
            yield from rows

    def predict_many(
        self, images: Iterable[Source | Named], *, faces: Faces = "all", workers: int | None = None
    ) -> Iterator[list[Prediction]]:
        """As `score_many`, with the rows of one picture in one list."""
        _check_faces(faces)
        if workers is not None and workers < 1:
            raise InvalidArgument(f"workers must be at least 1, but got {workers}")
        if faces != "none":
            self._detect()  # a detector that cannot be had is an error now, not after the first picture
        count = workers or self.workers
        pending: deque[Future[list[Prediction]]] = deque()
        pool = ThreadPoolExecutor(count, thread_name_prefix="efiqa")
        try:
            for index, image in enumerate(images):
                pending.append(pool.submit(self._predict_item, image, index, faces))
                if len(pending) >= 4 * count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _predict_item(self, item: Source | Named, index: int, faces: Faces) -> list[Prediction]:
        if isinstance(item, Named):
            error = item.error
            source: Source = item.path
            try:
                source = item.path if error or item.read is None else item.read()
            except ImageError as reason:
                error = reason
            if error is not None:
                return [self._decided(Prediction(item.name, status=error.status, message=str(error)))]
            return self.predict(source, faces=faces, name=item.name)
        name = printable(item) if isinstance(item, str | os.PathLike) else f"#{index}"
        return self.predict(item, faces=faces, name=name)

    def predict(self, image: Source, *, faces: Faces = "all", name: str = "") -> list[Prediction]:
        """Rows for one picture; never raises for its content.

        `faces` is `all` (largest first), `largest`, or `none`: the picture is the crop already.
        """
        _check_faces(faces)
        try:
            if faces == "none":
                whole = self._whole(image)
            else:
                loaded, reduction, found = self._looked_at(image, faces)
        except (ImageError, InvalidArgument) as error:
            status = error.status if isinstance(error, ImageError) else "not_an_image"
            message = f"{error}; {error.hint}" if error.hint else str(error)
            return [self._decided(Prediction(name, status=status, message=message))]
        if faces == "none":
            return [self._explained(self._row(name, 0, *self._judge(whole)), whole, None)]
        if not found:
            message = "no face was found; --faces none scores the picture as it is"
            return [self._decided(Prediction(name, status="no_face", message=message))]
        return [self._score_face(loaded, reduction, face, name, index) for index, face in enumerate(found)]

    def _whole(self, image: Source) -> Decoded:
        """The picture that is a crop already."""
        return self._decoded(image, max(ENOUGH * self.card.input_size, ENOUGH_WHOLE))[0]

    def _decoded(self, image: Source, shorter_side: int) -> tuple[Decoded, int]:
        """The picture, smaller where this much of its shorter side is enough, and how many times."""
        if self.attributes or self.views:  # they look at every pixel, again and again
            return _large_enough(load_image(image, max_pixels=self.max_pixels)), 1
        # No file object can be read twice.
        enough = shorter_side if isinstance(image, str | os.PathLike | bytes) else None
        decoded, reduction = decode_reduced(image, enough, max_pixels=self.max_pixels)
        return _large_enough(decoded), reduction

    def _looked_at(self, image: Source, faces: Faces) -> tuple[Decoded, int, list[Face]]:
        """The picture, how many times smaller than it is, and in its pixels the faces to score."""
        enough = ENOUGH * self.card.input_size
        loaded, reduction = self._decoded(image, max(enough, ENOUGH_TO_DETECT))
        found = self._found(loaded)[: 1 if faces == "largest" else None]
        if self.max_faces is not None and len(found) > self.max_faces:
            raise TooManyFaces(
                f"the picture has {len(found):,} faces, over the limit of {self.max_faces:,}",
                hint="faces=largest scores the largest alone",
            )
        smallest = min((max(face.box.width, face.box.height) for face in found), default=math.inf)
        if reduction > 1 and (lack := enough / (self.card.crop_scale * smallest)) > 1:
            loaded, less = self._decoded(image, math.ceil(lack * min(size_of(loaded))))
            found = [face.scaled(reduction / less) for face in found]
            reduction = less
        return loaded, reduction, found

    def _found(self, picture: Decoded) -> list[Face]:
        detector = self._detect()
        # An array of a large photo costs nearly what decoding it does: only for who needs one.
        if isinstance(detector, BlazeFace):
            return detector.detect(picture)
        return detector.detect(np.asarray(picture))

    def _score_face(self, image: Decoded, reduction: int, face: Face, name: str, index: int) -> Prediction:
        width, height = size_of(image)
        # Rounded before the crop is cut, so that a crop can be made again from the written row.
        box = face.box.scaled(reduction).rounded(1)
        bounds = face_crop(box.scaled(1 / reduction), width, height, scale=self.card.crop_scale)
        cut = crop(image, bounds)
        row = self._row(name, index, *self._judge(cut))
        size = max(box.width, box.height)
        row = replace(
            row,
            x=box.x,
            y=box.y,
            width=box.width,
            height=box.height,
            detection=round(face.detection, 4),
            message=f"small face, {size:.0f} px: the score says little" if size < SMALL_FACE else "",
        )
        return self._explained(row, image, replace(face, box=box))

    def _row(self, name: str, index: int, score: float, spread: float | None) -> Prediction:
        low = high = quality = None
        if self._quality is not None:
            quality = round(self._quality(score), 1)
        if self.card.interval is not None and self.coverage is not None:
            low, high = (round(end, SCORE_DIGITS) for end in self.card.interval.around(score, self.coverage))
        return Prediction(name, index, "ok", score, quality, spread=spread, low=low, high=high)

    @property
    def _quality(self) -> Callable[[float], float] | None:
        """What makes percentiles of scores; none without a population."""
        if self.calibration is not None:
            return self.calibration.quality
        return None if self.card.population is None else self.card.population.percentile

    def _explained(self, row: Prediction, image: Decoded, face: Face | None) -> Prediction:
        """The row with the face's attributes, and what the policy makes of them."""
        if not self.attributes:
            return row
        found = measure(np.asarray(image), face, crop_scale=self.card.crop_scale)
        values = {name: getattr(found, name) for name in ATTRIBUTES}
        return self._decided(replace(row, **values, reasons=";".join(reasons(found))), found)

    def _decided(self, row: Prediction, attributes: Attributes | None = None) -> Prediction:
        if self.policy is None:
            return row
        decision, why = decide(self.policy, row, attributes, self._quality)
        return replace(row, decision=decision, reasons=";".join(why))

    def _judge(self, image: Decoded) -> tuple[float, float | None]:
        """Mean score of a picture and its views, and their spread; none where it has no view."""
        pictures = [image]
        for name in self.views:
            pictures += VIEWS[name](np.asarray(image), self.card.input_size)
        scores = [self._run(picture) for picture in pictures]
        spread = round(float(np.std(scores)), SCORE_DIGITS) if len(scores) > 1 else None
        return round(float(np.mean(scores)), SCORE_DIGITS), spread

    def _run(self, image: Decoded) -> float:
        pixels = np.ascontiguousarray(RESIZE[self.card.resize](image, self.card.input_size))[np.newaxis]
        score = float(self.network(pixels)[0])
        if not math.isfinite(score):
            raise ModelError(
                f"the model {self.card.name} {self.card.version} gives {score}, which is no score"
            )
        return score


def _check_faces(faces: str) -> None:
    if faces not in get_args(Faces):
        raise InvalidArgument(f"faces must be all, largest or none, but got {faces!r}")


def _large_enough(image: Decoded) -> Decoded:
    width, height = size_of(image)
    if min(height, width) < MIN_SIDE:
        raise ImageTooSmall(
            f"the picture has {width} × {height} pixels; at least {MIN_SIDE} × {MIN_SIDE} are needed"
        )
    return image
