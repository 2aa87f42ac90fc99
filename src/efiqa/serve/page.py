"""The page, where it is part of the installation: static files, and headers under which it may run."""

from __future__ import annotations

import mimetypes
from importlib import resources
from pathlib import Path

from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from efiqa.errors import InvalidArgument

TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".tflite": "application/octet-stream",
    ".webmanifest": "application/manifest+json",
}
"""By endings that a machine's own table may lack or have wrong."""
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self' blob: data:; font-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    # Both: the browser isolates the page, without which WebAssembly gets no threads.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": POLICY,
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",  # asked each time whether it changed; ETags make the answer short
}


def page_folder() -> Path:
    """Where the page lies. Raises InvalidArgument where this installation has none."""
    folder = Path(str(resources.files("efiqa"))) / "page"
    if not (folder / "index.html").is_file():
        raise InvalidArgument(
            "the page is no part of this installation",
            hint="scripts/page builds it, in a source tree; or leave out --page",
        )
    return folder


def page(folder: Path) -> ASGIApp:
    """Serves the files in `folder`, index.html at /."""
    for ending, kind in TYPES.items():
        mimetypes.add_type(kind, ending)
    files = StaticFiles(directory=folder, html=True)
    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await files(scope, receive, send_with_headers)

    return app
