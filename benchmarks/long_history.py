"""A database with a long history: ended runs of twenty brands, with words that are rare and words that are frequent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from benchmarks.history import PROVIDER, add_finished_runs, carry
from tests.support.actors import OPERATOR
from tests.support.runs import create, lost_hints, read
from vm_webapp.context import brands
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claimant

BRANDS = 20
# Of the run with the number ``copies.n``, from 1 for the oldest. Two in a hundred failed, one was canceled; two fifths
# of all with a brand are of the first brand.
STATUS = "CASE WHEN copies.n % 50 = 7 THEN 'failed' WHEN copies.n % 100 = 55 THEN 'canceled' ELSE 'completed' END"
ERROR = """
CASE WHEN copies.n % 50 = 7
     THEN '{"code": "provider_unavailable", "message": "the server took no connection", "retryable": true}'::jsonb END
"""
REQUEST = """
concat('A plan for ', CASE WHEN copies.n % 2 = 0 THEN 'alpha' ELSE 'beta' END, ' clinics in town ',
       copies.n::bigint * 7919 % 50000, ' that sell product', copies.n % 997,
       CASE WHEN copies.n % 100000 = 77 THEN ' zebra' END, CASE WHEN copies.n % 2000 = 5 THEN ' seldom' END,
       CASE WHEN copies.n < 0.3 * {total} THEN ' ancient' END, ' and wants readers to come back often')
"""
OF_BRAND = "CASE WHEN copies.n % 10 < 7 THEN ({})[CASE WHEN copies.n % 10 < 3 THEN 1 ELSE 2 + copies.n % {} END] END"


@dataclass(frozen=True, slots=True)
class History:
    """What pages are asked for: a brand with many runs, one with few, and a run that failed."""

    large_brand: UUID
    small_brand: UUID
    failed_run: UUID


def add_long_history(url: str, runs: int) -> History:
    """Add so many ended runs to an empty database."""
    ids = [_brand_with_a_run(number) for number in range(1, BRANDS + 1)]
    digests = [_digest_of(brand) for brand in ids]
    varied = {
        "request": REQUEST,
        "status": STATUS,
        "error": ERROR,
        "brand_id": OF_BRAND.format(_array([f"'{brand}'::uuid" for brand in ids]), BRANDS - 1),
        "brand_digest": OF_BRAND.format(_array([rf"'\x{digest.hex()}'::bytea" for digest in digests]), BRANDS - 1),
    }
    add_finished_runs(url, runs, varied)
    (failed,) = read("SELECT id FROM runs WHERE status = 'failed' ORDER BY created_at DESC LIMIT 1")
    return History(ids[0], ids[1], failed["id"])


def _brand_with_a_run(number: int) -> UUID:
    """Create a brand, and a run of it that ends, since a brand's content is stored with the first run of it."""
    brand = brands.create({"name": f"Brand {number}"}, actor=OPERATOR).id
    claimant = Claimant(uuid4(), PROVIDER)
    with lost_hints():
        create("plan_90d", "A plan for a bakery that delivers by bicycle", brand_id=brand, auto_approve=True)
        (claim,) = lifecycle.claim_due_stages(claimant, [uuid4()]).claims
        carry(claim, claimant)
    return brand


def _digest_of(brand: UUID) -> bytes:
    (row,) = read("SELECT brand_digest FROM runs WHERE brand_id = %(brand)s", brand=brand)
    return bytes(row["brand_digest"])


def _array(values: Sequence[str]) -> str:
    return f"ARRAY[{', '.join(values)}]"
