"""Brands: create, list, read, change, archive."""

from __future__ import annotations

from api.routes.resources import routes_of
from api.schemas.brands import BRANDS

create_brand, list_brands, read_brand, change_brand, archive_brand = routes_of(BRANDS)
