"""Score sample portraits and degraded copies of them; print a table and write one HTML page.

    python examples/demo.py [FOLDER]        default: demo

The pictures are in the public domain or CC0; examples/samples/ORIGIN.md says where each comes from.
"""

from __future__ import annotations

import base64
import html
import io
import sys
from pathlib import Path

import PIL.Image

from efiqa import Box, Scorer, load_image
from efiqa.degrade import degrade
from efiqa.faces import face_crop
from efiqa.image import Image, crop

SAMPLES = Path(__file__).parent / "samples"
STEPS = [("as it is", "", 0.0)] + [
    (f"{kind}, {word}", kind, severity)
    for kind in ("blur", "downscale", "jpeg", "noise", "dark")
    for word, severity in (("some", 0.35), ("much", 0.8))
]
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem }
body { color: #1c2430; background: #fff }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin: 1.4rem 0 .6rem }
.faces { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(6.2rem, 1fr)) }
figure { margin: 0; line-height: 1.3 }
img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 6px; display: block }
.bar { height: 6px; border-radius: 3px; background: #dfe4ea; margin: .45rem 0 .2rem }
.bar i { display: block; height: 100%; border-radius: 3px }
b { font-variant-numeric: tabular-nums } small { color: #5a6675 }
"""


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    scorer = Scorer()
    card = scorer.card
    population = card.population.name if card.population else "none"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>efiqa demo</title>",
        f"<style>{STYLE}</style>",
        f"<h1>efiqa demo</h1><p>{html.escape(card.name)}, {card.parameters:,} parameters.",
        "Large: <b>quality</b>, 0–100, the share of a population that scores no higher",
        f"({html.escape(population)}). Small: the raw score.</p>",
    ]
    print(f"{'picture':<20}{'version':<18}{'score':>8}{'quality':>9}")
    for path in sorted(SAMPLES.glob("*.jpg")):
        face = _largest_face(scorer, load_image(path), path.name)
        parts.append(f"<h2>{html.escape(path.stem)}</h2><div class=faces>")
        for name, kind, severity in STEPS:
            image = degrade(face, kind, severity) if kind else face
            (row,) = scorer.predict(image, faces="none", name=path.name)
            score, quality = row.score or 0.0, row.quality or 0.0
            print(f"{path.stem:<20}{name:<18}{score:>8.3f}{quality:>9.1f}")
            colour = f"hsl({1.2 * quality:.0f} 60% 42%)"
            parts.append(
                f'<figure><img alt="{html.escape(path.stem)}, {name}" src="{_data_url(image)}">'
                f'<div class=bar><i style="width:{quality:.0f}%;background:{colour}"></i></div>'
                f"<b>{quality:.0f}</b> <small>{score:.3f}<br>{name}</small></figure>"
            )
        parts.append("</div>")
    page = folder / "index.html"
    page.write_text("\n".join(parts) + "\n", encoding="utf-8")
    print(f"page: {page}", file=sys.stderr)


def _largest_face(scorer: Scorer, image: Image, name: str) -> Image:
    (row,) = scorer.predict(image, faces="largest", name=name)
    if row.x is None or row.y is None or row.width is None or row.height is None:
        raise SystemExit(f"{name}: {row.status}, {row.message}")
    height, width = image.shape[:2]
    box = Box(row.x, row.y, row.width, row.height)
    return crop(image, face_crop(box, width, height, scale=scorer.card.crop_scale))


def _data_url(image: Image) -> str:
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "JPEG", quality=92)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    main()
