"""Brands and projects: what a run may be created with. A run keeps a copy; changing them changes no run in flight."""

from vm_webapp.context.repository import Changed, Repository, brands, projects

__all__ = ["Changed", "Repository", "brands", "projects"]
