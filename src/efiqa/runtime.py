"""ONNX Runtime with its telemetry off: the only import of it.

Since 1.32 at the latest it makes a device id and an event database in the cache folder when it is imported.
Only an environment variable that is set before can stop that, so it is set here, unless the user has.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

if os.environ["ORT_DISABLE_TELEMETRY"] == "1":
    onnxruntime.disable_telemetry_events()

__all__ = ["onnxruntime"]
