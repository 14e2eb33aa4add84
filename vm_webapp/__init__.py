"""VM Webapp: a workspace that runs marketing workflows."""

__version__ = "0.1.0"
