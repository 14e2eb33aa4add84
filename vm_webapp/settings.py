"""Reads the environment once: every variable of the program is named here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args
from urllib.parse import urlsplit

from environs import Env, EnvError, validate

from vm_webapp import __version__
from vm_webapp.durations import parse_duration
from vm_webapp.errors import ConfigurationError
from vm_webapp.prices import PriceTable, parse_prices
from vm_webapp.tracing.configuration import SamplerName, Tracing, parse_pairs
from vm_webapp.trusted_proxies import PLATFORM_PROXIES, Network, parse_networks

AppEnv = Literal["local", "staging", "production"]
Mode = Literal["managed", "attached", "local"]
Value = TypeVar("Value")

DATABASE_SCHEMES = ("postgres", "postgresql")
REDIS_SCHEMES = ("redis", "rediss", "unix")
COMMIT_CHARACTERS = 12
MOST_TOKENS = 100_000_000
MOST_CONNECTIONS = 200
SHORTEST_AUDIT_KEEP = timedelta(days=30)  # the database removes nothing newer (migration 0013)
PERCENT_ENCODE = "percent-encode each @, : / and % of its user name and password"
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
HOST = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(:\d*)?")
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
# NIST SP 800-63B, AAL1: a person authenticates again after 30 days at the latest.
SHORTEST_IDLE, LONGEST_SESSION = timedelta(minutes=1), timedelta(days=30)
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SAMPLERS = get_args(SamplerName)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in the environment. Secrets are left out of ``repr``.

    Attributes:
        managed: the platform supplies PostgreSQL and Redis; nothing embedded, no migration at start.
        db_direct_url: address of the database past a pooler, for migrations and the worker's own connection.
        api_connections: most database connections of an API process.
        worker_connections: most database connections of a worker, with that of its maintenance loop.
        kimi_max_tokens: largest budget of a model call in tokens, None for that of each stage.
        kimi_context_tokens: the model's context in tokens, for prompt and budget together.
        worker_threads: stages that one worker executes at a time.
        drain_seconds: how long calls in flight may go on after SIGTERM.
        llm_max_seconds: how long a model call may go on that keeps sending.
        llm_max_concurrency: model calls in flight across all workers, None for no cap.
        model_prices: what calls cost, None to count tokens only.
        purge_older_than: age from which workers delete finished runs, None to keep them all.
        trusted_proxies: the proxies whose forwarded headers are believed.
        audit_keep: age from which workers remove sealed entries of the audit trail, None to keep them all.
        session_idle: how long a browser's session goes on without a request.
        session_lasts: how long it goes on in any case.
        web_concurrency: number of API processes.
        requests_per_minute: how many requests a key may send in a minute, over all API processes.
        runs_per_day: how many runs a key may create on a day in UTC, None for any number.
        tracing: where traces go, None to record none.
        build: the version, and the deployed commit if the platform names it.
    """

    app_env: AppEnv = "local"
    managed: bool = False
    db_url: str | None = field(default=None, repr=False)
    db_direct_url: str | None = field(default=None, repr=False)
    api_connections: int = 8
    worker_connections: int = 6
    redis_url: str | None = field(default=None, repr=False)
    workspace_root: Path = Path("runtime/vm")
    kimi_api_key: str | None = field(default=None, repr=False)
    kimi_model: str = "kimi-for-coding"
    kimi_base_url: str = "https://api.kimi.com/coding/v1"
    kimi_max_tokens: int | None = None
    kimi_context_tokens: int = 262_144
    worker_threads: int = 32
    drain_seconds: float = 25.0
    llm_max_seconds: int = 3600
    llm_max_concurrency: int | None = None
    model_prices: PriceTable | None = None
    purge_older_than: timedelta | None = None
    audit_keep: timedelta | None = None
    workflows_path: Path | None = None
    api_token: str | None = field(default=None, repr=False)
    trusted_proxies: tuple[Network, ...] = ()
    session_idle: timedelta = timedelta(hours=12)
    session_lasts: timedelta = timedelta(days=7)
    port: int = 8766
    web_concurrency: int = 1
    requests_per_minute: int = 6000
    runs_per_day: int | None = None
    log_level: str = "INFO"
    tracing: Tracing | None = None
    build: str = __version__

    @property
    def mode(self) -> Mode:
        """Which servers are used: the platform's, those of ``VM_DB_URL``, or embedded ones."""
        if self.managed:
            return "managed"
        return "attached" if self.db_url else "local"


def read_settings(*, complete: bool = True) -> Settings:
    """Read and check the environment. Empty values count as unset.

    Args:
        complete: whether the variables that the mode requires must be set; a command that only talks to an API
            over HTTP needs none of them.

    Returns:
        Settings whose values are valid.

    Raises:
        ConfigurationError: a value does not parse or a required one is missing; the text names the variable
            and never shows its value.
    """
    env = _StrictEnv()
    settings = Settings(
        app_env=cast(AppEnv, env.one_of("APP_ENV", ("local", "staging", "production"), "local")),
        managed=env.boolean("VM_ENABLE_MANAGED_MODE"),
        db_url=env.database("VM_DB_URL"),
        db_direct_url=env.database("VM_DB_DIRECT_URL"),
        api_connections=env.integer("VM_API_CONNECTIONS", 2, MOST_CONNECTIONS) or 8,
        worker_connections=env.integer("VM_WORKER_CONNECTIONS", 2, MOST_CONNECTIONS) or 6,
        redis_url=env.url("VM_REDIS_URL", REDIS_SCHEMES),
        workspace_root=Path(env.text("VM_WORKSPACE_ROOT", "runtime/vm")),
        kimi_api_key=env.token("KIMI_API_KEY"),
        kimi_model=env.text("KIMI_MODEL", "kimi-for-coding"),
        kimi_base_url=env.public_url("KIMI_BASE_URL") or "https://api.kimi.com/coding/v1",
        kimi_max_tokens=env.integer("KIMI_MAX_TOKENS", 1, MOST_TOKENS),
        kimi_context_tokens=env.integer("KIMI_CONTEXT_TOKENS", 1_024, MOST_TOKENS) or 262_144,
        worker_threads=env.integer("VM_WORKER_THREADS", 1, 512) or 32,
        drain_seconds=env.seconds("VM_DRAIN_SECONDS", 25.0),
        llm_max_seconds=env.integer("VM_LLM_MAX_SECONDS", 1, 86_400) or 3600,
        llm_max_concurrency=env.integer("VM_LLM_MAX_CONCURRENCY", 1, 10_000),
        model_prices=env.prices("VM_MODEL_PRICES"),
        purge_older_than=env.duration("VM_PURGE_OLDER_THAN"),
        audit_keep=env.duration("VM_AUDIT_KEEP", least=SHORTEST_AUDIT_KEEP),
        workflows_path=Path(path) if (path := env.text("VM_WORKFLOWS_PATH", "")) else None,
        api_token=env.token("VM_API_TOKEN"),
        trusted_proxies=env.networks("VM_TRUSTED_PROXIES") or _proxies_of_platform(env),
        session_idle=env.session("VM_SESSION_IDLE") or timedelta(hours=12),
        session_lasts=env.session("VM_SESSION_LASTS") or timedelta(days=7),
        port=env.integer("PORT", 1, 65_535) or 8766,
        web_concurrency=env.integer("WEB_CONCURRENCY", 1, 64) or 1,
        requests_per_minute=env.integer("VM_REQUESTS_PER_MINUTE", 100, 10_000_000) or 6000,
        runs_per_day=env.integer("VM_RUNS_PER_DAY", 1, 1_000_000),
        log_level=env.one_of("LOG_LEVEL", LOG_LEVELS, "INFO", fold=str.upper),
        tracing=_read_tracing(env),
        build=_name_build(env.token("RENDER_GIT_COMMIT")),
    )
    if complete:
        _require_what_the_mode_needs(settings)
    return settings


def _url_problem(rest: str) -> str:
    """Return why libpq would not understand what follows ``postgresql://`` as it is meant; empty if it would."""
    # libpq ends user name and password at the first @, unless a / comes before it; other characters it takes as they
    # are. What it then takes for the host may be a part of the password.
    credentials, at, after = rest.partition("@")
    if "/" in credentials or not at:
        credentials, after = "", rest
    hosts = re.split("[/?]", after, maxsplit=1)[0].split(",")
    ported = all(HOST.fullmatch(host) for host in hosts)
    if "@" in after.split("?", 1)[0] or BAD_ESCAPE.search(rest) or (at and not credentials and not ported):
        return PERCENT_ENCODE
    return "" if ported else "each host may have a port, which is a number, and an IPv6 address stands in [ ]"


def _name_build(commit: str | None) -> str:
    return f"{__version__}+{commit[:COMMIT_CHARACTERS]}" if commit else __version__


def _read_tracing(env: _StrictEnv) -> Tracing | None:
    # By the names and the meaning that OpenTelemetry gives them, so that what operators know holds here.
    endpoint = env.public_url("OTEL_EXPORTER_OTLP_ENDPOINT")
    env.one_of("OTEL_EXPORTER_OTLP_PROTOCOL", ("http/protobuf",), "http/protobuf")
    headers, resource = env.pairs("OTEL_EXPORTER_OTLP_HEADERS"), env.pairs("OTEL_RESOURCE_ATTRIBUTES")
    if name := env.text("OTEL_SERVICE_NAME", ""):
        resource["service.name"] = name
    sampler = cast(SamplerName, env.one_of("OTEL_TRACES_SAMPLER", SAMPLERS, "parentbased_always_on"))
    ratio = env.share("OTEL_TRACES_SAMPLER_ARG")
    return Tracing(endpoint, headers, resource, sampler, ratio) if endpoint else None


def _proxies_of_platform(env: _StrictEnv) -> tuple[Network, ...]:
    # Render sets RENDER=true in every service. Nothing reaches a service there but through its proxies.
    return PLATFORM_PROXIES if env.text("RENDER", "").lower() == "true" else ()


def _require_what_the_mode_needs(settings: Settings) -> None:
    if settings.db_direct_url is not None and settings.db_url is None:
        raise ConfigurationError("VM_DB_DIRECT_URL requires VM_DB_URL: a single address belongs there")
    if settings.managed:
        for name, value in (("VM_DB_URL", settings.db_url), ("VM_REDIS_URL", settings.redis_url)):
            if value is None:
                raise ConfigurationError(f"VM_ENABLE_MANAGED_MODE=true requires {name}")
    elif settings.app_env == "production":
        raise ConfigurationError("APP_ENV=production requires VM_ENABLE_MANAGED_MODE=true")


class _StrictEnv:
    """Wraps environs so that errors name the variable and the rule, but never the value."""

    def __init__(self) -> None:
        self._env = Env()

    def text(self, name: str, default: str) -> str:
        return str(self._env.str(name, "")).strip() or default

    def token(self, name: str) -> str | None:
        value = self.text(name, "")
        # It goes into an HTTP header, which a line end would split.
        if not value.isascii() or any(c.isspace() or not c.isprintable() for c in value):
            raise ConfigurationError(f"{name} must be printable ASCII without spaces")
        return value or None

    def boolean(self, name: str) -> bool:
        return self._parse(name, False, "true or false", lambda: self._env.bool(name))

    def integer(self, name: str, low: int, high: int) -> int | None:
        rule = f"a whole number from {low} to {high}"
        check = validate.Range(low, high)
        return self._parse(name, None, rule, lambda: self._env.int(name, validate=check))

    def seconds(self, name: str, default: float) -> float:
        check = validate.Range(0, 3600)
        rule = "a number of seconds from 0 to 3600"
        return self._parse(name, default, rule, lambda: self._env.float(name, validate=check))

    def share(self, name: str) -> float:
        check = validate.Range(0, 1)
        return self._parse(name, 1.0, "a number from 0 to 1", lambda: self._env.float(name, validate=check))

    def pairs(self, name: str) -> dict[str, str]:
        try:
            return parse_pairs(self.text(name, ""))
        except ValueError as error:
            raise ConfigurationError(f"{name} {error}") from None

    def duration(self, name: str, *, least: timedelta = timedelta(0)) -> timedelta | None:
        value = self.text(name, "")
        if not value:
            return None
        try:
            length = parse_duration(value)
        except ValueError as error:
            raise ConfigurationError(f"{name} {error}") from None
        if length < least:
            raise ConfigurationError(f"{name} must be at least {least.days}d")
        return length

    def networks(self, name: str) -> tuple[Network, ...]:
        value = self.text(name, "")
        try:
            return parse_networks(value) if value else ()
        except ValueError as error:
            raise ConfigurationError(f"{name} {error}") from None

    def prices(self, name: str) -> PriceTable | None:
        value = self.text(name, "")
        try:
            return parse_prices(value) if value else None
        except ValueError as error:
            raise ConfigurationError(f"{name} {error}") from None

    def session(self, name: str) -> timedelta | None:
        length = self.duration(name)
        if length is not None and not SHORTEST_IDLE <= length <= LONGEST_SESSION:
            raise ConfigurationError(f"{name} must be from 1m to 30d")
        return length

    def one_of(self, name: str, allowed: tuple[str, ...], default: str, *, fold: Callable[[str], str] = str) -> str:
        value = fold(self.text(name, default))
        if value not in allowed:
            raise ConfigurationError(f"{name} must be one of {', '.join(allowed)}")
        return value

    def url(self, name: str, schemes: tuple[str, ...]) -> str | None:
        value = self.text(name, "")
        if not value:
            return None
        starts = tuple(f"{scheme}://" for scheme in schemes)
        rule = f"{name} must be a URL that begins with {' or '.join(starts)}"
        try:
            parts = urlsplit(value)
            _ = parts.port  # raises ValueError if it is no port
        except ValueError:
            raise ConfigurationError(rule) from None
        if not value.startswith(starts) or not (parts.netloc or parts.path.strip("/")):
            raise ConfigurationError(rule)
        # libpq and redis-py split such a URL elsewhere than intended and quote part of the password in their errors.
        if parts.netloc.count("@") > 1 or BAD_ESCAPE.search(value):
            raise ConfigurationError(f"{name}: {PERCENT_ENCODE}")
        return value

    def database(self, name: str) -> str | None:
        """Return the address of a database as libpq takes it: a URL, or ``key=value`` pairs."""
        value = self.text(name, "")
        if not value:
            return None
        url = SCHEME.match(value)
        if url is None and "=" in value:
            return value
        if url is None or url[1] not in DATABASE_SCHEMES or not value[url.end() :].strip("/"):
            starts = " or ".join(f"{scheme}://" for scheme in DATABASE_SCHEMES)
            raise ConfigurationError(f"{name} must be a URL that begins with {starts}, or libpq's key=value pairs")
        if problem := _url_problem(value[url.end() :]):
            raise ConfigurationError(f"{name}: {problem}")
        return value

    def public_url(self, name: str) -> str | None:
        """Return a URL that may be shown: it names a host and holds no secret."""
        # The base URL appears in errors on a run's timeline.
        value = self.url(name, ("http", "https"))
        if value is not None:
            parts = urlsplit(value)
            if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
                raise ConfigurationError(f"{name} must be a host and a path, without user name, password or query")
        return value

    def _parse(self, name: str, default: Value, rule: str, parse: Callable[[], Value]) -> Value:
        if not self.text(name, ""):
            return default
        try:
            return parse()
        # ``from None``: the text of EnvError quotes the value, which may be a secret in the wrong variable.
        except EnvError:
            raise ConfigurationError(f"{name} must be {rule}") from None
