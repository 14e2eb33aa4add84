"""What ``serve`` needs of the API, apart because importing it takes longer than anything else at a start."""

from __future__ import annotations

from contextlib import ExitStack

from actors import connected
from api.app import create_app
from api.auth import is_loopback
from api.server import serve
from api.services import Services, database_threads
from vm_webapp.db.pool import OPERATOR_CONNECTIONS, close_pool, open_pool
from vm_webapp.db.sessions import name_session
from vm_webapp.fleet.process_metrics import Process, published
from vm_webapp.local.by_mode import Servers
from vm_webapp.metrics import BUILD_INFO
from vm_webapp.ops.autoscale.decider import deciding
from vm_webapp.ops.autoscale.shapes import Limits
from vm_webapp.ops.health import HealthChecker
from vm_webapp.settings import Settings
from vm_webapp.tracing.opening import open_tracer
from vm_webapp.workflows.loader import Catalog, load_catalog

__all__ = ["create_app", "describe", "load_catalog", "open_services", "serve"]


def open_services(settings: Settings, catalog: Catalog, servers: Servers, host: str, opened: ExitStack) -> Services:
    """Open what the API works with, until ``opened`` is closed.

    Args:
        settings: the settings of the environment.
        catalog: the workflows that can be run.
        servers: PostgreSQL and Redis.
        host: the address that the API listens on.
        opened: closes what is opened.
    """
    url, redis_url = servers.database_url, servers.redis_url
    opened.callback(close_pool)
    open_pool(
        url,
        max_connections=settings.api_connections,
        application_name=name_session("api", settings.build),
        leave_free=OPERATOR_CONNECTIONS,
    )
    opened.enter_context(connected(redis_url))
    BUILD_INFO.labels(settings.build).set(1)
    process = Process("api")
    opened.enter_context(published(process))
    opened.enter_context(deciding(settings))
    if settings.judoscale_url is not None:
        # Here, because a process that reports nothing needs no HTTP client, nor its memory.
        from vm_webapp.ops.autoscale.judoscale import reporting

        opened.enter_context(reporting(settings))
    if settings.render_api_key is not None and settings.autoscale_service_id is not None:
        # Here, because a process that scales nothing needs no HTTP client.
        from vm_webapp.ops.autoscale.scaler import scaling

        opened.enter_context(scaling(settings, Limits.of(settings), settings.autoscale_service_id))
    tracer = opened.enter_context(
        open_tracer(settings.tracing, service="vm-webapp-api", build=settings.build, instance=process.instance)
    )
    return Services(
        settings=settings,
        catalog=catalog,
        health=HealthChecker(settings, redis_url),
        require_token=settings.managed or not is_loopback(host),
        loopback=is_loopback(host),
        threads=database_threads(settings),
        redis_url=redis_url,
        tracer=tracer,
    )


def describe(services: Services, servers: Servers, url: str, *, with_worker: bool) -> list[str]:
    """Return what a person should know once the API serves requests, line by line; the first ends with its URL."""
    settings = services.settings
    provider = {
        True: f"{settings.kimi_model} at {settings.kimi_base_url}",
        False: "none configured: stages that need a model fail (set KIMI_API_KEY)"
        if settings.managed
        else "offline: worksheets instead of a model's text (set KIMI_API_KEY to change that)",
    }[settings.kimi_api_key is not None]
    embedded = f"embedded PostgreSQL under {settings.workspace_root.resolve()}"
    data = embedded if servers.embedded else "PostgreSQL of VM_DB_URL"
    lines = [
        f"API       {url}",
        f"Model     {provider}",
        f"Data      {data}",
        f"Worker    {'a child process of this one' if with_worker else 'none here: python -m vm_webapp worker'}",
    ]
    if services.require_token and settings.api_token is None:
        lines.append("Note      every request needs a key: python -m vm_webapp keys create, or set VM_API_TOKEN")
    lines += [f"Note      {note}" for note in servers.notes]
    lines += [f"Workflow  {problem}" for problem in services.catalog.problems]
    return lines
