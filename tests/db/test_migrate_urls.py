"""Which URLs migrations accept, and how they refuse the others."""

from __future__ import annotations

import pytest

from vm_webapp.db import bundle, migrate
from vm_webapp.db.migrate.locks import advisory_lock
from vm_webapp.errors import ConfigurationError


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
@pytest.mark.parametrize("options", ["", "&options=-c%20work_mem%3D1MB"], ids=["plain", "with options"])
def test_both_schemes_migrate(database_url: str, scheme: str, options: str) -> None:
    url = f"{scheme}://{database_url.split('://', 1)[1]}{options}"
    with advisory_lock(url) as session, session.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    assert migrate.read_status(url).pending == bundle.bundled_ids()
    assert migrate.apply_pending(url) == bundle.bundled_ids()
    assert migrate.read_status(url).applied == bundle.bundled_ids()


@pytest.mark.parametrize("act", [migrate.read_status, migrate.apply_pending, migrate.unlock])
@pytest.mark.parametrize("url", ["postgresql://u:s3cret@host/db?nonsense=1", "postgresql://u:s3cret@host/db%"])
def test_a_url_that_makes_no_sense_is_refused_without_showing_it(act: object, url: str) -> None:
    assert callable(act)
    with pytest.raises(ConfigurationError, match="VM_DB_URL") as refused:
        act(url)
    assert "s3cret" not in str(refused.value)
    assert refused.value.__suppress_context__
