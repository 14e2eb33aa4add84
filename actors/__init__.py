"""The Dramatiq adapter. Importing it sets the broker and declares the actor, as ``dramatiq actors`` expects."""

from actors.app import broker, connected, execute_stage, middleware

__all__ = ["broker", "connected", "execute_stage", "middleware"]
