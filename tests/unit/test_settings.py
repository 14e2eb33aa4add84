"""Reading the environment: defaults, refused values, and no secret in any message or ``repr``."""

from __future__ import annotations

import os
from datetime import timedelta
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path

import pytest

from vm_webapp import __version__
from vm_webapp.errors import ConfigurationError
from vm_webapp.prices import Price, PriceTable
from vm_webapp.settings import SAMPLERS, Settings, read_settings
from vm_webapp.tracing.configuration import Tracing
from vm_webapp.trusted_proxies import PLATFORM_PROXIES, WANTED, Network

OURS = ("VM_", "KIMI_", "APP_ENV", "PORT", "WEB_CONCURRENCY", "LOG_LEVEL", "RENDER", "OTEL_", "JUDOSCALE_URL")
DB_URL = "postgresql://vm:s3cret@db.internal:5432/vm"
REDIS_URL = "rediss://:s3cret@cache.internal:6380/0"
PERCENT_ENCODE = "percent-encode each @, : / and % of its user name and password"
NO_ADDRESS = "must be a URL that begins with postgres:// or postgresql://, or libpq's key=value pairs"
PUBLIC = "must be a host and a path, without user name, password or query"
NO_HOST = "each host may have a port from 1 to 65535, and an IPv6 address stands in [ ]"
NO_NAME = "what stands between two dots of a host has 1 to 63 characters"
NO_REDIS_DATABASE = "the database is a number, as in redis://host:6379/0"
NO_REDIS_OPTION = "after ? stand db, username and password, and with rediss:// ssl_cert_reqs, ssl_ca_certs, \
ssl_ca_path, ssl_certfile, ssl_keyfile and ssl_check_hostname"
MANAGED = {"VM_ENABLE_MANAGED_MODE": "true", "VM_DB_URL": DB_URL, "VM_REDIS_URL": REDIS_URL}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(OURS):
            monkeypatch.delenv(name)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    return Read(monkeypatch)


class Read:
    """Reads the settings from an environment that a test gives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, **environment: str) -> Settings:
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)
        return read_settings()

    def refusal(self, **environment: str) -> str:
        with pytest.raises(ConfigurationError) as refused:
            self(**environment)
        return str(refused.value)


def test_nothing_set_is_local_mode_with_the_documented_defaults(read: Read) -> None:
    settings = read()
    assert settings == Settings()
    assert (settings.app_env, settings.mode, settings.port) == ("local", "local", 8766)
    assert settings.workspace_root == Path("runtime/vm")
    assert (settings.kimi_api_key, settings.kimi_model) == (None, "kimi-for-coding")
    assert settings.kimi_base_url == "https://api.kimi.com/coding/v1"
    assert (settings.kimi_max_tokens, settings.kimi_context_tokens) == (None, 262_144)
    assert (settings.worker_threads, settings.drain_seconds, settings.llm_max_concurrency) == (32, 25, None)


@pytest.mark.parametrize("empty", ["", "  ", "\t\n"])
def test_empty_means_unset_for_every_variable(read: Read, empty: str) -> None:
    names = "VM_DB_URL VM_DB_DIRECT_URL VM_REDIS_URL VM_ENABLE_MANAGED_MODE VM_WORKSPACE_ROOT VM_WORKER_THREADS \
        VM_DRAIN_SECONDS VM_SESSION_IDLE VM_SESSION_LASTS VM_API_CONNECTIONS VM_WORKER_CONNECTIONS \
        VM_LLM_MAX_CONCURRENCY VM_WORKFLOWS_PATH VM_API_TOKEN KIMI_API_KEY KIMI_MODEL KIMI_BASE_URL KIMI_MAX_TOKENS \
        KIMI_CONTEXT_TOKENS APP_ENV PORT \
        WEB_CONCURRENCY LOG_LEVEL RENDER RENDER_GIT_COMMIT VM_TRUSTED_PROXIES \
        VM_REQUESTS_PER_MINUTE VM_RUNS_PER_DAY VM_AUTOSCALE_MIN VM_AUTOSCALE_MAX VM_AUTOSCALE_TARGET_WAIT_SECONDS \
        VM_AUTOSCALE_SERVICE_ID RENDER_API_KEY RENDER_API_URL \
        VM_MODEL_PRICES OTEL_EXPORTER_OTLP_ENDPOINT OTEL_EXPORTER_OTLP_HEADERS \
        OTEL_EXPORTER_OTLP_PROTOCOL OTEL_SERVICE_NAME OTEL_RESOURCE_ATTRIBUTES OTEL_TRACES_SAMPLER \
        OTEL_TRACES_SAMPLER_ARG JUDOSCALE_URL"
    assert read(**dict.fromkeys(names.split(), empty)) == Settings()


def test_everything_set_is_read(read: Read) -> None:
    settings = read(
        **MANAGED,
        APP_ENV="production",
        VM_WORKSPACE_ROOT="/srv/vm",
        KIMI_API_KEY="sk-s3cret",
        KIMI_MODEL="kimi-k2",
        KIMI_BASE_URL="https://api.moonshot.ai/v1",
        KIMI_MAX_TOKENS="8000",
        KIMI_CONTEXT_TOKENS="131072",
        VM_WORKER_THREADS="8",
        VM_DRAIN_SECONDS="280",
        VM_LLM_MAX_CONCURRENCY="30",
        VM_WORKFLOWS_PATH="/srv/workflows",
        VM_API_TOKEN="t0ken-s3cret",
        VM_TRUSTED_PROXIES="10.0.0.0/8, 192.0.2.1",
        VM_SESSION_IDLE="30m",
        VM_SESSION_LASTS="1d",
        PORT="10000",
        WEB_CONCURRENCY="2",
        VM_REQUESTS_PER_MINUTE="1200",
        VM_RUNS_PER_DAY="50",
        VM_AUTOSCALE_MIN="2",
        VM_AUTOSCALE_MAX="20",
        VM_AUTOSCALE_TARGET_WAIT_SECONDS="45",
        VM_AUTOSCALE_SERVICE_ID="srv-c0ffee",
        RENDER_API_KEY="rnd_s3cret",
        RENDER_API_URL="https://render.internal/v1",
        VM_MODEL_PRICES='{"currency": "USD", "models": {"kimi-k2": {"prompt": 0.6, "completion": 2.5}}}',
        LOG_LEVEL="debug",
        RENDER_GIT_COMMIT="4f1d0c3b9a8e77665544332211",
        OTEL_EXPORTER_OTLP_ENDPOINT="https://collector.internal:4318/otlp",
        OTEL_EXPORTER_OTLP_HEADERS="api-key=t0ken%2Cs3cret, x-team = one",
        OTEL_SERVICE_NAME="web",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=staging,service.name=other",
        OTEL_TRACES_SAMPLER="parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0.25",
        JUDOSCALE_URL="https://adapter.judoscale.com/api/s3cret",
    )
    assert settings == Settings(
        app_env="production",
        managed=True,
        db_url=DB_URL,
        redis_url=REDIS_URL,
        workspace_root=Path("/srv/vm"),
        kimi_api_key="sk-s3cret",
        kimi_model="kimi-k2",
        kimi_base_url="https://api.moonshot.ai/v1",
        kimi_max_tokens=8000,
        kimi_context_tokens=131_072,
        worker_threads=8,
        drain_seconds=280.0,
        llm_max_concurrency=30,
        workflows_path=Path("/srv/workflows"),
        api_token="t0ken-s3cret",
        trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("192.0.2.1")),
        session_idle=timedelta(minutes=30),
        session_lasts=timedelta(days=1),
        port=10_000,
        web_concurrency=2,
        requests_per_minute=1200,
        runs_per_day=50,
        autoscale_min=2,
        autoscale_max=20,
        autoscale_target_wait_seconds=45.0,
        autoscale_service_id="srv-c0ffee",
        render_api_key="rnd_s3cret",
        render_api_url="https://render.internal/v1",
        model_prices=PriceTable("USD", {"kimi-k2": Price(Decimal("0.6"), Decimal("2.5"), Decimal("0.6"))}),
        log_level="DEBUG",
        tracing=Tracing(
            "https://collector.internal:4318/otlp",
            {"api-key": "t0ken,s3cret", "x-team": "one"},
            {"deployment.environment.name": "staging", "service.name": "web"},
            "parentbased_traceidratio",
            0.25,
        ),
        judoscale_url="https://adapter.judoscale.com/api/s3cret",
        build=f"{__version__}+4f1d0c3b9a8e",
    )
    assert settings.mode == "managed"
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("environment", "trusted"),
    [
        ({}, ()),
        ({"RENDER": "true"}, PLATFORM_PROXIES),
        ({"RENDER": "false"}, ()),
        ({"RENDER": "true", "VM_TRUSTED_PROXIES": "10.1.0.0/16"}, (ip_network("10.1.0.0/16"),)),
    ],
)
def test_on_the_platform_its_own_proxies_are_trusted(
    read: Read, environment: dict[str, str], trusted: tuple[Network, ...]
) -> None:
    assert read(**environment).trusted_proxies == trusted


@pytest.mark.parametrize("name", ["VM_DB_URL", "VM_REDIS_URL"])
@pytest.mark.parametrize("empty", [None, ""])
def test_managed_mode_without_its_servers_fails_at_once(read: Read, name: str, empty: str | None) -> None:
    environment = {key: value for key, value in MANAGED.items() if key != name}
    if empty is not None:
        environment[name] = empty
    assert read.refusal(**environment) == f"VM_ENABLE_MANAGED_MODE=true requires {name}"


@pytest.mark.parametrize("switch", [None, "false"])
def test_production_without_managed_mode_is_an_error(read: Read, switch: str | None) -> None:
    environment = {"APP_ENV": "production", "VM_DB_URL": DB_URL, "VM_REDIS_URL": REDIS_URL}
    if switch is not None:
        environment["VM_ENABLE_MANAGED_MODE"] = switch
    assert read.refusal(**environment) == "APP_ENV=production requires VM_ENABLE_MANAGED_MODE=true"


def test_a_database_of_ones_own_without_managed_mode_is_attached(read: Read) -> None:
    assert read(VM_DB_URL=DB_URL).mode == "attached"
    assert read(VM_DB_URL=DB_URL, APP_ENV="staging").mode == "attached"


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("VM_DB_URL", "db_url", "postgres://h/d"),
        ("VM_DB_URL", "db_url", "postgresql:///vm?host=/run/postgresql"),
        ("VM_DB_URL", "db_url", "postgresql://%2Frun%2Fpostgresql/vm"),
        ("VM_DB_URL", "db_url", "postgresql://u:#p[?]:x@h/d"),
        ("VM_DB_URL", "db_url", "postgresql://u:p@one:5432,two,[::1]:5433/d?target_session_attrs=read-write"),
        ("VM_DB_URL", "db_url", "postgresql://u@h/d?application_name=a@b"),
        ("VM_DB_URL", "db_url", "postgresql://?service=vm"),
        ("VM_DB_URL", "db_url", "service=vm"),
        ("VM_DB_URL", "db_url", "host=/run/postgresql dbname=vm user=u password='p:// @%'"),
        ("VM_DB_URL", "db_url", "postgresql://u:p%40ss%25@[::1]:5432/d?sslmode=require"),
        ("VM_REDIS_URL", "redis_url", "redis://h"),
        ("VM_REDIS_URL", "redis_url", "redis://:p@[::1]:6380/15"),
        ("VM_REDIS_URL", "redis_url", "redis://:a p@h"),
        ("VM_REDIS_URL", "redis_url", "redis://h/?db=2&username=u&password=p"),
        ("VM_REDIS_URL", "redis_url", "rediss://h/0?ssl_cert_reqs=none&ssl_check_hostname=false"),
        ("VM_REDIS_URL", "redis_url", "unix:///run/redis.sock?db=1"),
        ("KIMI_BASE_URL", "kimi_base_url", "http://127.0.0.1:8080/v1"),
        ("VM_DRAIN_SECONDS", "drain_seconds", "0.0"),
        ("VM_LLM_MAX_CONCURRENCY", "llm_max_concurrency", "1"),
        ("VM_LLM_MAX_SECONDS", "llm_max_seconds", "1"),
        ("KIMI_MAX_TOKENS", "kimi_max_tokens", "1"),
        ("KIMI_CONTEXT_TOKENS", "kimi_context_tokens", "1024"),
        ("PORT", "port", "65535"),
        ("VM_REQUESTS_PER_MINUTE", "requests_per_minute", "100"),
        ("VM_RUNS_PER_DAY", "runs_per_day", "1"),
        ("VM_AUTOSCALE_MIN", "autoscale_min", "0"),
        ("VM_AUTOSCALE_MAX", "autoscale_max", "1000"),
        ("VM_AUTOSCALE_TARGET_WAIT_SECONDS", "autoscale_target_wait_seconds", "1.0"),
    ],
)
@pytest.mark.parametrize("around", ["", " "])
def test_values_at_the_edge_are_taken_without_the_space_around_them(
    read: Read, name: str, field: str, value: str, around: str
) -> None:
    settings = read(**{name: f"{around}{value}{around}"})
    assert str(getattr(settings, field)) == value


@pytest.mark.parametrize(("value", "length"), [("1m", timedelta(minutes=1)), ("30d", timedelta(days=30))])
def test_limits_of_a_session_are_taken_from_a_minute_to_thirty_days(read: Read, value: str, length: timedelta) -> None:
    settings = read(VM_SESSION_IDLE=value, VM_SESSION_LASTS=value)
    assert (settings.session_idle, settings.session_lasts) == (length, length)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("APP_ENV", "s3cret", "must be one of local, staging, production"),
        ("VM_ENABLE_MANAGED_MODE", "s3cret", "must be true or false"),
        ("VM_DB_URL", "s3cret", NO_ADDRESS),
        ("VM_DB_URL", "postgresql:s3cret", NO_ADDRESS),
        ("VM_DB_URL", "postgresql://", NO_ADDRESS),
        ("VM_DB_URL", "mysql://u:s3cret@h/d", NO_ADDRESS),
        ("VM_DB_URL", "s3cret://x?a=b", NO_ADDRESS),
        ("VM_DB_URL", "postgres://u:s3cret@h:port/d", NO_HOST),
        ("VM_DB_URL", "postgres://u:s3cret@h:1,h:x/d", NO_HOST),
        ("VM_DB_URL", "postgres://u:s3cret@h:65536/d", NO_HOST),
        ("VM_DB_URL", "postgres://u:s3cret@h:0/d", NO_HOST),
        ("VM_DB_URL", "postgres://u:s3cret@[::1/d", NO_HOST),
        ("VM_DB_URL", "postgres://u:s3cret@::1/d", NO_HOST),
        ("VM_DB_URL", "postgres://u:s3/cret@h/d", PERCENT_ENCODE),
        ("VM_DB_URL", "postgres://u:s3/?cret@h/d", PERCENT_ENCODE),
        ("VM_DB_URL", "postgres://u:/s3cret@h/d", PERCENT_ENCODE),
        (
            "VM_DB_DIRECT_URL",
            "postgres://u:s3/cret@h/d",
            PERCENT_ENCODE,
        ),
        ("VM_DB_URL", "postgres://u:s3@cret@h/d", PERCENT_ENCODE),
        ("VM_DB_URL", "postgres://u:s3%cret@h/d", PERCENT_ENCODE),
        ("VM_DB_URL", "postgres://u:s3%00cret@h/d", PERCENT_ENCODE),
        ("VM_DB_URL", "postgres://u:s3cret\udcff@h/d", "must be UTF-8"),
        ("KIMI_MODEL", "s3cret\udcff", "must be UTF-8"),
        ("VM_REDIS_URL", "http://s3cret", "must be a URL that begins with redis:// or rediss:// or unix://"),
        ("VM_REDIS_URL", "redis://s3cret:99999", NO_HOST),
        ("VM_REDIS_URL", "redis://s3cret:0", NO_HOST),
        ("VM_REDIS_URL", f"redis://s3cret{'x' * 64}", NO_NAME),
        ("VM_REDIS_URL", "redis://s3cret..h", NO_NAME),
        ("VM_REDIS_URL", "redis://h/s3cret", NO_REDIS_DATABASE),
        ("VM_REDIS_URL", "redis://h/0/s3cret", NO_REDIS_DATABASE),
        ("VM_REDIS_URL", "redis://h/-1", NO_REDIS_DATABASE),
        ("VM_REDIS_URL", "redis://h?db=s3cret", NO_REDIS_DATABASE),
        ("VM_REDIS_URL", "unix:///run/redis.sock?db=", NO_REDIS_DATABASE),
        ("VM_REDIS_URL", "redis://h?s3cret=1", NO_REDIS_OPTION),
        ("VM_REDIS_URL", "redis://h?decode_responses=1", NO_REDIS_OPTION),
        ("VM_REDIS_URL", "redis://h?ssl_cert_reqs=none", NO_REDIS_OPTION),
        ("VM_REDIS_URL", "rediss://h?ssl_cert_reqs=s3cret", "ssl_cert_reqs must be one of none, optional, required"),
        ("KIMI_BASE_URL", "s3cret", "must be a URL that begins with http:// or https://"),
        ("KIMI_BASE_URL", "https://u:s3cret@h/v1", PUBLIC),
        ("KIMI_BASE_URL", "https://h/v1?key=s3cret", PUBLIC),
        ("KIMI_BASE_URL", "https:///s3cret", PUBLIC),
        ("KIMI_BASE_URL", "https://h s3cret/v1", "a host has no spaces"),
        ("VM_REDIS_URL", "redis://h\x0bs3cret", "a host has no spaces"),
        ("KIMI_API_KEY", "s3 cret", "must be printable ASCII without spaces"),
        ("KIMI_API_KEY", "s3crét", "must be printable ASCII without spaces"),
        ("VM_API_TOKEN", "s3cret\x1b", "must be printable ASCII without spaces"),
        ("VM_TRUSTED_PROXIES", "s3cret", WANTED),
        ("VM_TRUSTED_PROXIES", "10.0.0.0/8, s3cret", WANTED),
        ("VM_SESSION_IDLE", "s3cret", "must be a length of time such as 90d, 12h, 30m or 45s"),
        ("VM_SESSION_IDLE", "59s", "must be from 1m to 30d"),
        ("VM_SESSION_LASTS", "31d", "must be from 1m to 30d"),
        ("KIMI_MAX_TOKENS", "s3cret", "must be a whole number from 1 to 100000000"),
        ("KIMI_MAX_TOKENS", "0", "must be a whole number from 1 to 100000000"),
        ("KIMI_CONTEXT_TOKENS", "1023", "must be a whole number from 1024 to 100000000"),
        ("VM_WORKER_THREADS", "s3cret", "must be a whole number from 1 to 512"),
        ("VM_API_CONNECTIONS", "1", "must be a whole number from 2 to 200"),
        ("VM_WORKER_CONNECTIONS", "201", "must be a whole number from 2 to 200"),
        ("VM_WORKER_THREADS", "0", "must be a whole number from 1 to 512"),
        ("VM_WORKER_THREADS", "1_0", "must be a whole number from 1 to 512"),
        ("VM_WORKER_THREADS", "\u0661", "must be a whole number from 1 to 512"),
        ("VM_DRAIN_SECONDS", "1_0", "must be a number of seconds from 0 to 3600"),
        ("VM_WORKER_THREADS", "2.5", "must be a whole number from 1 to 512"),
        ("VM_DRAIN_SECONDS", "-1", "must be a number of seconds from 0 to 3600"),
        ("VM_DRAIN_SECONDS", "nan", "must be a number of seconds from 0 to 3600"),
        ("VM_DRAIN_SECONDS", "inf", "must be a number of seconds from 0 to 3600"),
        ("VM_LLM_MAX_CONCURRENCY", "0", "must be a whole number from 1 to 10000"),
        ("PORT", "65536", "must be a whole number from 1 to 65535"),
        ("PORT", "tcp://10.0.0.1:80", "must be a whole number from 1 to 65535"),
        ("WEB_CONCURRENCY", "s3cret", "must be a whole number from 1 to 64"),
        ("VM_REQUESTS_PER_MINUTE", "99", "must be a whole number from 100 to 10000000"),
        ("VM_RUNS_PER_DAY", "0", "must be a whole number from 1 to 1000000"),
        ("VM_AUTOSCALE_MIN", "-1", "must be a whole number from 0 to 1000"),
        ("VM_AUTOSCALE_MIN", "11", "must be at most VM_AUTOSCALE_MAX"),
        ("VM_AUTOSCALE_MAX", "s3cret", "must be a whole number from 1 to 1000"),
        ("VM_AUTOSCALE_TARGET_WAIT_SECONDS", "0", "must be a number of seconds from 1 to 3600"),
        ("VM_AUTOSCALE_SERVICE_ID", "srv/s3cret", "must be the id of a service, such as srv-abc123"),
        ("RENDER_API_KEY", "two s3cret", "must be printable ASCII without spaces"),
        ("RENDER_API_URL", "https://x:s3cret@api.render.com/v1", PUBLIC),
        ("VM_MODEL_PRICES", "s3cret", "must be JSON"),
        ("VM_MODEL_PRICES", '{"s3cret": 1}', 'must be an object with "currency" and "models"'),
        ("LOG_LEVEL", "s3cret", "must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "s3cret:4318", "must be a URL that begins with http:// or https://"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://u:s3cret@h", PUBLIC),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "must be one of http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret", "must be pairs name=value, separated by commas"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=s3cret", "must be pairs name=value, separated by commas"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret%0d%0a", "must have values of printable ASCII, percent-encoded"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=s3cret", "must be pairs name=value, separated by commas"),
        ("OTEL_TRACES_SAMPLER", "s3cret", f"must be one of {', '.join(SAMPLERS)}"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5", "must be a number from 0 to 1"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan", "must be a number from 0 to 1"),
        ("JUDOSCALE_URL", "s3cret", "must be a URL that begins with http:// or https://"),
        ("JUDOSCALE_URL", "https:///s3cret", PUBLIC),
        ("JUDOSCALE_URL", "https://h/api?key=s3cret", PUBLIC),
    ],
)
def test_a_value_that_does_not_parse_names_the_variable_and_shows_no_value(
    read: Read, name: str, value: str, rule: str
) -> None:
    refusal = read.refusal(**{name: value})
    assert refusal in {f"{name} {rule}", f"{name}: {rule}"}
    assert "cret" not in refusal


def test_paths_may_have_any_bytes(read: Read) -> None:
    settings = read(VM_WORKSPACE_ROOT="/srv/\udcff", VM_WORKFLOWS_PATH="/etc/\udcff ")
    assert (settings.workspace_root, settings.workflows_path) == (Path("/srv/\udcff"), Path("/etc/\udcff"))
