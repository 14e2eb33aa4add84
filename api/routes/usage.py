"""The route of the usage report, as JSON or as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial

from aiohttp import web

from api.operations.call import Call
from api.operations.headers import VARY
from api.operations.query import Found, query
from api.schemas.usage import UsageQuery, UsageReportOut
from api.services import services
from vm_webapp.errors import InvalidInput
from vm_webapp.prices import money_text
from vm_webapp.usage.reports import Part, UsageRow, read_usage

DAYS = timedelta(days=30)
CSV = "text/csv"
COUNTS = ("calls", "estimated_calls", "unpriced_calls", "prompt_tokens", "completion_tokens")
# Spreadsheets take a cell that begins so for a formula (OWASP, CSV Injection), and brands and workflows have names that
# people choose. The last four are the full-width forms of the first, which some take for them.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True, slots=True)
class UsageReport:
    """A report and its days.

    Attributes:
        by: what the rows are told apart by.
        currency: of the price table; None without one.
    """

    first: date
    last: date
    by: tuple[Part, ...]
    currency: str | None
    items: list[UsageRow]


async def _csv_if_wanted(
    request: web.Request, read: Callable[[], Awaitable[Found]], *, query: UsageQuery
) -> Found | web.StreamResponse:
    """Return the report as CSV if the caller asks for that."""
    found = await read()
    if CSV not in request.headers.get("Accept", ""):
        return found
    report = found.records
    text = await services(request).threads.run(partial(_csv, report))
    name = f"usage-{report.first}-{report.last}.csv"
    headers = {VARY.name: "Accept", "Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(text=text, content_type=CSV, charset="utf-8", headers=headers)


@query(
    "/usage",
    UsageReportOut,
    role="viewer",
    summary="Tokens and money that model calls have used, by day, brand, workflow and model",
    around=_csv_if_wanted,
    headers=lambda report: {VARY.name: "Accept"},
    returns=(VARY,),
    alternatives={CSV: {"type": "string"}},
)
def read_usage_report(call: Call, query: UsageQuery) -> UsageReport:
    """Add up what calls have used; with ``Accept: text/csv`` as a table for spreadsheets."""
    last = query.last or datetime.now(UTC).date() + timedelta(days=1)
    first = query.first or last - DAYS
    if last < first:
        raise InvalidInput("from lies after tomorrow: give to as well")
    prices = call.services.settings.model_prices
    return UsageReport(
        first, last, query.parts, prices.currency if prices else None, read_usage(first, last, query.parts)
    )


def _csv(report: UsageReport) -> str:
    parts = [name for part in report.by for name in (("brand_id", "brand") if part == "brand" else (part,))]
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow([*parts, *COUNTS, "money", "currency"])
    for row in report.items:
        cells = (getattr(row, name) for name in (*parts, *COUNTS))
        table.writerow([*_written(cells), money_text(row.money), report.currency or ""])
    return text.getvalue()


def _written(cells: Iterable[object]) -> list[str]:
    """Return cells as text that a spreadsheet shows and does not calculate."""
    texts = ("" if cell is None else str(cell) for cell in cells)
    return [f"'{text}" if text.startswith(FORMULA) else text for text in texts]
