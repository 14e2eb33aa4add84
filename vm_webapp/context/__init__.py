"""Brands and projects: what a run may be created with. A run keeps a copy; changing them changes no run in flight."""

from vm_webapp.context.records import Brand, Project
from vm_webapp.context.shelf import Changed, Shelf, brands, projects

__all__ = ["Brand", "Changed", "Project", "Shelf", "brands", "projects"]
