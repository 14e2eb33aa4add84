"""Brands: create, list, read, change, archive."""

from __future__ import annotations

from aiohttp import web

from api.http.cursors import Cursor
from api.http.etags import etag, required_version
from api.operations.command import Call, command
from api.operations.operation import PREFIX, Answer, operation
from api.schemas.brands import BrandChangeIn, BrandIn, BrandOut, BrandPath, BrandsOut, ShelfQuery
from api.services import services
from vm_webapp.context import Brand, brands


@command("POST", "/brands", summary="Create a brand", status=201)
def create_brand(call: Call, body: BrandIn) -> Answer[BrandOut]:
    """Create it."""
    brand = brands.create(body.model_dump())
    return _answer(brand, location=f"{PREFIX}/brands/{brand.id}")


@operation("GET", "/brands", summary="Brands, newest first")
async def list_brands(request: web.Request, query: ShelfQuery) -> Answer[BrandsOut]:
    """List a page."""
    after = Cursor.position(query.cursor)
    page = await services(request).threads.run(
        lambda: brands.list(limit=query.limit, after=after, archived=query.archived)
    )
    items = [BrandOut.model_validate(brand) for brand in page.items]
    return Answer(BrandsOut(items=items, next_cursor=Cursor.of(page.next_position)))


@operation("GET", "/brands/{brand_id}", summary="One brand")
async def read_brand(request: web.Request, path: BrandPath) -> Answer[BrandOut]:
    """Read it; its ``ETag`` is what a change needs."""
    return _answer(await services(request).threads.run(lambda: brands.read(path.brand_id)))


@command("PATCH", "/brands/{brand_id}", summary="Change a brand", errors=(409, 412, 428))
def change_brand(call: Call, path: BrandPath, body: BrandChangeIn) -> Answer[BrandOut]:
    """Change what is given, if the brand is still the one that was read."""
    version = required_version(call.if_match)
    return _answer(brands.change(path.brand_id, body.model_dump(exclude_unset=True), version=version))


@command("POST", "/brands/{brand_id}/archive", summary="Archive a brand: it takes no new runs")
def archive_brand(call: Call, path: BrandPath) -> Answer[BrandOut]:
    """Archive it; runs in flight go on."""
    return _answer(brands.archive(path.brand_id))


def _answer(brand: Brand, *, location: str | None = None) -> Answer[BrandOut]:
    headers = etag(brand.version) | ({"Location": location} if location else {})
    return Answer(BrandOut.model_validate(brand), headers=headers)
