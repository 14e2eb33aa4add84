"""Brands and projects that runs can be created with. A run stores a copy, so later changes do not affect it."""

from vm_webapp.context.repository import Repository, ResourceChanged, brands, projects

__all__ = ["Repository", "ResourceChanged", "brands", "projects"]
