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

from efiqa import Scorer, load_image
from efiqa.degrade import degrade

SAMPLES = Path(__file__).parent / "samples"
STEPS = [("as it is", "", 0.0)] + [
    (f"{kind}, {word}", kind, severity)
    for kind in ("blur", "downscale", "jpeg", "noise", "dark")
    for word, severity in (("some", 0.35), ("much", 0.8))
]
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1c2430 }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin: 2rem 0 .6rem }
.faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1rem }
figure { margin: 0 } img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 6px; display: block }
.bar { height: 6px; border-radius: 3px; background: #dfe4ea; margin: .45rem 0 .2rem }
.bar i { display: block; height: 100%; border-radius: 3px }
b { font-variant-numeric: tabular-nums } small { color: #5a6675 }
"""


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    scorer = Scorer()
    card = scorer.card
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>efiqa demo</title><style>{STYLE}</style>",
        f"<h1>efiqa demo</h1><p>{html.escape(card.name)} {html.escape(card.version)}, {card.parameters:,} parameters.",
        "The large number is <b>quality</b>, 0–100: the share of the reference population",
        f"({html.escape(card.population.name if card.population else 'none')}) that scores no higher.",
        "The small one is the raw score.</p>",
    ]
    print(f"{'picture':<20}{'version':<18}{'score':>8}{'quality':>9}")
    for path in sorted(SAMPLES.glob("*.jpg")):
        original = load_image(path)
        parts.append(f"<h2>{html.escape(path.stem)}</h2><div class=faces>")
        for name, kind, severity in STEPS:
            image = degrade(original, kind, severity) if kind else original
            (row,) = scorer.predict(image, faces="largest", name=path.name)
            if row.score is None or row.quality is None:
                print(f"{path.stem:<20}{name:<18}{row.status:>17}")
                caption = f"<b>{row.status}</b>"
            else:
                print(f"{path.stem:<20}{name:<18}{row.score:>8.3f}{row.quality:>9.1f}")
                caption = (
                    f'<div class=bar><i style="width:{row.quality:.0f}%;background:hsl({1.2 * row.quality:.0f} 60% 42%)">'
                    f"</i></div><b>{row.quality:.0f}</b> <small>{row.score:.3f}</small>"
                )
            parts.append(f'<figure><img alt="" src="{_data_url(image)}">{caption} <small>{name}</small></figure>')
        parts.append("</div>")
    page = folder / "index.html"
    page.write_text("\n".join(parts) + "\n", encoding="utf-8")
    print(f"page: {page}", file=sys.stderr)


def _data_url(image: object) -> str:
    buffer = io.BytesIO()
    picture = PIL.Image.fromarray(image)  # type: ignore[arg-type]
    picture.thumbnail((320, 320))
    picture.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    main()
