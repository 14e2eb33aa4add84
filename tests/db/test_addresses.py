"""Every address that libpq takes works for the pool, for a dedicated connection and for migrations alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg2.extensions import parse_dsn

from tests.support.pgbouncer import PASSWORD, ROLE, pgbouncer
from vm_webapp.db import bundle, migrate
from vm_webapp.db.migrate.locks import advisory_lock
from vm_webapp.db.pool import close_pool, dedicated_connection, open_pool, row, transaction
from vm_webapp.errors import ConfigurationError
from vm_webapp.local.by_mode import servers_of
from vm_webapp.settings import Settings, read_settings

Address = Callable[[dict[str, str]], str]

ADDRESSES: dict[str, Address] = {
    "key=value pairs": lambda at: f"host={at['host']} port={at['port']} user=postgres dbname={at['dbname']}",
    "a quoted password": lambda at: f"host={at['host']} user=postgres password='a b#/[@:%' dbname={at['dbname']}",
    "query parameters": lambda at: f"postgresql:///{at['dbname']}?host={at['host']}&user=postgres&sslmode=disable",
    "a socket's folder": lambda at: f"postgresql://postgres@{at['host'].replace('/', '%2F')}/{at['dbname']}",
    "several hosts": lambda at: (
        f"postgresql://postgres@127.0.0.1:1,{at['host'].replace('/', '%2F')}:{at['port']}/{at['dbname']}"
        "?target_session_attrs=read-write"
    ),
    "several hosts as pairs": lambda at: f"host=/nowhere,{at['host']} port=1,5432 user=postgres dbname={at['dbname']}",
    "a service": lambda at: "service=vm",
    "a service as a URL": lambda at: "postgresql://?service=vm",
}


def connected_database() -> object:
    with transaction():
        found = row("SELECT current_database() AS name, current_setting('statement_timeout') AS timeout")
    assert found is not None
    return found["name"], found["timeout"]


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES.keys())
def test_an_address_works_everywhere(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: Address
) -> None:
    at = parse_dsn(database_url)
    service = "\n".join(["[vm]", *(f"{key}={value}" for key, value in at.items())])
    (tmp_path / "services").write_text(f"{service}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("VM_DB_URL", address(at))
    with servers_of(read_settings()) as servers:
        url = servers.session_url
    with advisory_lock(url) as session, session.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    assert migrate.apply_pending(url) == bundle.bundled_ids()
    plan = migrate.plan_down(url, steps=1)
    migrate.roll_back(url, plan, alive=None)
    open_pool(url, max_connections=1, application_name="tests")
    assert connected_database() == (at["dbname"], "10s")
    close_pool()
    with dedicated_connection(url, application_name="tests", statement_timeout_ms=3000):
        assert connected_database() == (at["dbname"], "3s")


@pytest.mark.parametrize(
    "form",
    ["url", "host=127.0.0.1 port={port} user={user} dbname={database} password='{password}'"],
    ids=["percent-encoded", "key=value"],
)
def test_a_password_with_every_special_character_is_sent_as_it_is(database_url: str, form: str) -> None:
    name = parse_dsn(database_url)["dbname"]
    with pgbouncer(database_url, pool_mode="session") as bouncer:
        url = (
            bouncer.url(name)
            if form == "url"
            else form.format(port=bouncer.port, user=ROLE, database=name, password=PASSWORD)
        )
        assert migrate.read_status(url).applied == bundle.bundled_ids()
        assert migrate.apply_pending(url) == ()
        open_pool(url, max_connections=1, application_name="tests")
        assert connected_database() == (name, "10s")
        close_pool()


@pytest.mark.parametrize("variable", ["VM_DB_URL", "VM_DB_DIRECT_URL"])
@pytest.mark.parametrize("value", ["postgresql://u:s3cret@h/d?nonsense=1", "host=h password=s3cret nonsense=1"])
def test_an_address_that_libpq_does_not_understand_names_its_variable(variable: str, value: str) -> None:
    given = {"db_url": "postgresql://h/d"} | {variable.removeprefix("VM_").lower(): value}
    with (
        pytest.raises(ConfigurationError, match=f"^{variable} is not a PostgreSQL URL") as refused,
        servers_of(Settings(**given)),  # type: ignore[arg-type]
    ):
        pass
    assert "s3cret" not in str(refused.value)


REFUSED = {
    "service=nothere": 'definition of service "nothere" not found',
    "postgresql://?service=nothere": 'definition of service "nothere" not found',
    "host=h sslmode=s3cret": 'invalid sslmode value: "…"',
    "host=h gssencmode=s3cret": 'invalid gssencmode value: "…"',
    "postgresql://h/d?target_session_attrs=s3cret": 'invalid target_session_attrs value: "…"',
    "host=a,b port=1,2,3": "could not match 3 port numbers to 2 hosts",
    "host=h port=s3cret": 'invalid integer value "…" for connection option "port"',
    "port=65536": 'invalid port number: "…"',
    "postgresql://h/d?connect_timeout=s3cret": "connect_timeout must be a whole number",
    "postgresql://h/d?keepalives_idle=1.5": "keepalives_idle must be a whole number",
    "hostaddr=s3cret": "hostaddr must be an IP address: a name belongs in host",
    "postgresql://h/d?sslmode=verify-full&sslrootcert=/nowhere/s3cret": (
        "the file that sslrootcert names cannot be read: No such file or directory"
    ),
}
USABLE = (
    "service=two",
    "service=two gssencmode=require",
    "host=one,two port=5432,5433",
    "hostaddr=127.0.0.1,::1 port=5432,5433",
    "port=5432,5433",
    "postgresql:///d?host=/run/postgresql&gssencmode=require",
    "postgresql://h/d?sslmode=verify-full&sslrootcert=system&connect_timeout=2&keepalives=1",
    "postgresql://h/d?sslmode=prefer&sslrootcert=/nowhere/at/all",
)


@pytest.fixture
def service_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service with two hosts."""
    services = tmp_path / "services"
    services.write_text("[two]\nhost=one,two\nport=5432,5433\n", encoding="utf-8")
    monkeypatch.setenv("PGSERVICEFILE", str(services))


@pytest.mark.usefixtures("service_file")
@pytest.mark.parametrize(("value", "said"), REFUSED.items())
@pytest.mark.parametrize("variable", ["VM_DB_URL", "VM_DB_DIRECT_URL"])
def test_an_address_that_libpq_could_not_use_is_refused_before_it_connects(
    variable: str, value: str, said: str
) -> None:
    given = {"db_url": "postgresql://h/d"} | {variable.removeprefix("VM_").lower(): value}
    with pytest.raises(ConfigurationError) as refused, servers_of(Settings(**given)):  # type: ignore[arg-type]
        pass
    assert str(refused.value) == f"{variable}: {said}"


@pytest.mark.usefixtures("service_file")
@pytest.mark.parametrize("value", USABLE)
def test_an_address_that_libpq_could_use_is_taken_without_connecting(value: str) -> None:
    with servers_of(Settings(db_url=value)) as servers:
        assert servers.database_url == value


def test_what_the_environment_adds_to_an_address_is_checked_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "nonsense")
    with (
        pytest.raises(ConfigurationError, match=r'^VM_DB_URL: invalid sslmode value: "nonsense"$'),
        servers_of(Settings(db_url="postgresql://h/d")),
    ):
        pass
