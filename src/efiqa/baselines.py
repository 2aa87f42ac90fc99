"""Scores that need no model: what a learnt one has to beat.

Each is a function of the pixels as they are, RGB uint8 (H, W, 3) → float, higher meaning better, in units of
its own: only their order says anything, and only among pictures of about one size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from efiqa.image import Image


def luma(image: Image) -> NDArray[np.float64]:
    """Y' = 0.299 R' + 0.587 G' + 0.114 B', (H, W) in 0–255, not rounded. Source: ITU-R BT.601."""
    return np.asarray(image @ np.array([0.299, 0.587, 0.114]))


def laplacian(image: Image) -> float:
    """Variance of the 3 × 3 Laplacian 0 1 0 / 1 −4 1 / 0 1 0 of luma; the border is mirrored, not repeated.

    What `cv2.Laplacian(luma, cv2.CV_64F).var()` gives. Noise raises it as detail does. Source: Pech-Pacheco
    et al., "Diatom autofocusing in brightfield microscopy: a comparative study", ICPR 2000.
    """
    wide = _bordered(image)
    around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    return float(np.var(around - 4 * wide[1:-1, 1:-1]))


def tenengrad(image: Image) -> float:
    """Mean of Gx² + Gy², the 3 × 3 Sobel gradients of luma (1 2 1 across −1 0 1); the border is mirrored.

    Source: Tenenbaum, "Accommodation in computer vision", 1970, by way of Krotkov, "Focusing", IJCV 1, 1988;
    without the threshold.
    """
    wide = _bordered(image)
    down = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    across = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    return float(np.mean((down[:, 2:] - down[:, :-2]) ** 2 + (across[2:] - across[:-2]) ** 2))


def brightness(image: Image) -> float:
    """Mean luma over 255, in 0–1."""
    return float(luma(image).mean() / 255)


BASELINES: dict[str, Callable[[Image], float]] = {
    "laplacian": laplacian,
    "tenengrad": tenengrad,
    "brightness": brightness,
}


def _bordered(image: Image) -> NDArray[np.float64]:
    """Luma with one more pixel on each side, (H + 2, W + 2): the picture mirrored at its outermost pixels."""
    return np.pad(luma(image), 1, "reflect")
