"""The OpenAPI 3.1 document, generated from the declared operations."""

from api.operations.openapi.document import describe
from api.operations.openapi.links import Link

__all__ = ["Link", "describe"]
