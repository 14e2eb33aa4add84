"""Reads the environment once: every variable of the program is named here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal, cast, get_args

from vm_webapp import __version__
from vm_webapp.environment import Environment
from vm_webapp.errors import ConfigurationError
from vm_webapp.prices import PriceTable, parse_prices
from vm_webapp.service_ids import parse_service_id
from vm_webapp.tracing.configuration import SamplerName, Tracing, parse_pairs
from vm_webapp.trusted_proxies import PLATFORM_PROXIES, Network, parse_networks

AppEnv = Literal["local", "staging", "production"]
Mode = Literal["managed", "attached", "local"]

RENDER_API = "https://api.render.com/v1"
COMMIT_CHARACTERS = 12
MOST_TOKENS = 100_000_000
MOST_CONNECTIONS = 200
MOST_WORKERS = 1000
MOST_THREADS = 512  # of a worker
SHORTEST_AUDIT_KEEP = timedelta(days=30)  # the database removes nothing newer (migration 0013)
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
        autoscale_min: fewest workers that are ever asked for.
        autoscale_max: most workers that are ever asked for, at least ``autoscale_min``.
        autoscale_target_wait_seconds: for how long a due stage should wait for a worker at most.
        autoscale_service_id: the platform's id of the workers' service, None where nothing here scales it.
        render_api_key: the key with which their number is set at Render.
        tracing: where traces go, None to record none.
        judoscale_url: where reports for Judoscale go, None to send none; its path is a secret.
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
    autoscale_min: int = 1
    autoscale_max: int = 10
    autoscale_target_wait_seconds: float = 30.0
    autoscale_service_id: str | None = None
    render_api_key: str | None = field(default=None, repr=False)
    render_api_url: str = RENDER_API
    log_level: str = "INFO"
    tracing: Tracing | None = None
    judoscale_url: str | None = field(default=None, repr=False)
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
    env = Environment()
    settings = Settings(
        app_env=cast(AppEnv, env.one_of("APP_ENV", ("local", "staging", "production"), "local")),
        managed=env.boolean("VM_ENABLE_MANAGED_MODE"),
        db_url=env.database("VM_DB_URL"),
        db_direct_url=env.database("VM_DB_DIRECT_URL"),
        api_connections=env.integer("VM_API_CONNECTIONS", 2, MOST_CONNECTIONS) or 8,
        worker_connections=env.integer("VM_WORKER_CONNECTIONS", 2, MOST_CONNECTIONS) or 6,
        redis_url=env.redis("VM_REDIS_URL"),
        workspace_root=env.path("VM_WORKSPACE_ROOT") or Path("runtime/vm"),
        kimi_api_key=env.token("KIMI_API_KEY"),
        kimi_model=env.text("KIMI_MODEL", "kimi-for-coding"),
        kimi_base_url=env.public_url("KIMI_BASE_URL") or "https://api.kimi.com/coding/v1",
        kimi_max_tokens=env.integer("KIMI_MAX_TOKENS", 1, MOST_TOKENS),
        kimi_context_tokens=env.integer("KIMI_CONTEXT_TOKENS", 1_024, MOST_TOKENS) or 262_144,
        worker_threads=env.integer("VM_WORKER_THREADS", 1, MOST_THREADS) or 32,
        drain_seconds=env.seconds("VM_DRAIN_SECONDS", 25.0),
        llm_max_seconds=env.integer("VM_LLM_MAX_SECONDS", 1, 86_400) or 3600,
        llm_max_concurrency=env.integer("VM_LLM_MAX_CONCURRENCY", 1, 10_000),
        model_prices=env.parsed("VM_MODEL_PRICES", parse_prices),
        purge_older_than=env.duration("VM_PURGE_OLDER_THAN"),
        audit_keep=env.duration("VM_AUDIT_KEEP", least=SHORTEST_AUDIT_KEEP),
        workflows_path=env.path("VM_WORKFLOWS_PATH"),
        api_token=env.token("VM_API_TOKEN"),
        trusted_proxies=env.parsed("VM_TRUSTED_PROXIES", parse_networks) or _proxies_of_platform(env),
        session_idle=_read_session(env, "VM_SESSION_IDLE") or timedelta(hours=12),
        session_lasts=_read_session(env, "VM_SESSION_LASTS") or timedelta(days=7),
        port=env.integer("PORT", 1, 65_535) or 8766,
        web_concurrency=env.integer("WEB_CONCURRENCY", 1, 64) or 1,
        requests_per_minute=env.integer("VM_REQUESTS_PER_MINUTE", 100, 10_000_000) or 6000,
        runs_per_day=env.integer("VM_RUNS_PER_DAY", 1, 1_000_000),
        autoscale_min=1 if (fewest := env.integer("VM_AUTOSCALE_MIN", 0, MOST_WORKERS)) is None else fewest,
        autoscale_max=env.integer("VM_AUTOSCALE_MAX", 1, MOST_WORKERS) or 10,
        autoscale_target_wait_seconds=env.seconds("VM_AUTOSCALE_TARGET_WAIT_SECONDS", 30.0, least=1),
        autoscale_service_id=env.parsed("VM_AUTOSCALE_SERVICE_ID", parse_service_id),
        render_api_key=env.token("RENDER_API_KEY"),
        render_api_url=env.public_url("RENDER_API_URL") or RENDER_API,
        log_level=env.one_of("LOG_LEVEL", LOG_LEVELS, "INFO", fold=str.upper),
        tracing=_read_tracing(env),
        judoscale_url=env.public_url("JUDOSCALE_URL"),
        build=_name_build(env.token("RENDER_GIT_COMMIT")),
    )
    if settings.autoscale_min > settings.autoscale_max:
        raise ConfigurationError("VM_AUTOSCALE_MIN must be at most VM_AUTOSCALE_MAX")
    if complete:
        _require_what_the_mode_needs(settings)
    return settings


def _name_build(commit: str | None) -> str:
    return f"{__version__}+{commit[:COMMIT_CHARACTERS]}" if commit else __version__


def _read_session(env: Environment, name: str) -> timedelta | None:
    length = env.duration(name)
    if length is not None and not SHORTEST_IDLE <= length <= LONGEST_SESSION:
        raise ConfigurationError(f"{name} must be from 1m to 30d")
    return length


def _read_tracing(env: Environment) -> Tracing | None:
    # By the names and the meaning that OpenTelemetry gives them, so that what operators know holds here.
    endpoint = env.public_url("OTEL_EXPORTER_OTLP_ENDPOINT")
    env.one_of("OTEL_EXPORTER_OTLP_PROTOCOL", ("http/protobuf",), "http/protobuf")
    headers = env.parsed("OTEL_EXPORTER_OTLP_HEADERS", parse_pairs) or {}
    resource = env.parsed("OTEL_RESOURCE_ATTRIBUTES", parse_pairs) or {}
    if name := env.text("OTEL_SERVICE_NAME", ""):
        resource["service.name"] = name
    sampler = cast(SamplerName, env.one_of("OTEL_TRACES_SAMPLER", SAMPLERS, "parentbased_always_on"))
    ratio = env.share("OTEL_TRACES_SAMPLER_ARG")
    return Tracing(endpoint, headers, resource, sampler, ratio) if endpoint else None


def _proxies_of_platform(env: Environment) -> tuple[Network, ...]:
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
