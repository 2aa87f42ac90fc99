"""The service: FastAPI over one or more Scorers, uvicorn around it. The only place that imports them."""

from efiqa.serve.app import create_app
from efiqa.serve.limits import Limits
from efiqa.serve.server import Address, serve

__all__ = ["Address", "Limits", "create_app", "serve"]
