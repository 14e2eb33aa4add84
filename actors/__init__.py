"""The Dramatiq side. Importing it sets the broker and declares the actors, as ``dramatiq actors`` expects."""

from actors.broker import broker
from actors.stages import execute_stage

__all__ = ["broker", "execute_stage"]
