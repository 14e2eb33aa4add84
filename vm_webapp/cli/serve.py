"""``serve``: run the API, and outside managed mode everything that it needs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager

from actors import connected
from api.app import create_app
from api.auth import is_loopback
from api.server import serve
from api.services import Services, database_threads
from vm_webapp.cli.child import WorkerChild
from vm_webapp.cli.migrated import migrated_servers
from vm_webapp.cli.output import announce
from vm_webapp.db.pool import OPERATOR_CONNECTIONS, close_pool, open_pool
from vm_webapp.db.sessions import name_session
from vm_webapp.fleet.process_metrics import Process, published
from vm_webapp.local.by_mode import Servers, servers_of
from vm_webapp.metrics import BUILD_INFO
from vm_webapp.ops.autoscale.decider import deciding
from vm_webapp.ops.autoscale.shapes import Limits
from vm_webapp.ops.health import HealthChecker
from vm_webapp.parents import Parents, drain_without
from vm_webapp.settings import Settings
from vm_webapp.tracing.opening import open_tracer
from vm_webapp.workflows.loader import Catalog, load_catalog

STDIN, STDOUT = 0, 1


def serve_until_stopped(settings: Settings, *, host: str, port: int, with_worker: bool, parents: Parents) -> int:
    """Serve until SIGTERM or Ctrl-C, or until a parent ends; return the exit code.

    Args:
        settings: the settings of the environment.
        host: the address to listen on.
        port: the port, 0 for any free one.
        with_worker: keep a worker as a child process; never done in managed mode.
        parents: the parents that it does not outlive.
    """
    # Before there is an event loop, which would not handle a signal until the last template has been checked.
    catalog = load_catalog(settings.workflows_path)
    with_worker = with_worker and not settings.managed
    asyncio.run(_serve(settings, catalog, host, port, with_worker=with_worker, parents=parents))
    return 0


def serve_for_parent(settings: Settings, *, host: str, port: int, with_worker: bool, descriptors: Sequence[int]) -> int:
    """Serve on the sockets of a parent until SIGTERM, or until standard input ends because the parent has died.

    Once the API serves requests, it prints the lines for a person to standard output, followed by an empty line.

    Args:
        settings: the settings of the environment.
        host: the address of the sockets.
        port: the port of the sockets.
        with_worker: whether the parent keeps a worker.
        descriptors: the file descriptors of the listening sockets.

    Returns:
        The exit code.
    """
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    # Not by this process's own children: one that outlived it would keep the address in use.
    for each in sockets:
        each.set_inheritable(False)
    catalog = load_catalog(settings.workflows_path)
    with_worker = with_worker and not settings.managed
    asyncio.run(_serve(settings, catalog, host, port, with_worker=with_worker, parents=Parents(), sockets=sockets))
    return 0


async def _serve(
    settings: Settings,
    catalog: Catalog,
    host: str,
    port: int,
    *,
    with_worker: bool,
    parents: Parents,
    sockets: Sequence[socket.socket] = (),
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    drain_without(parents, unless=stop.is_set)
    if sockets:
        loop.add_reader(STDIN, _read_stdin, stop)
    show = _print_to_parent if sockets else _print
    async with running_stack(
        settings, catalog, host, port, with_worker=with_worker, on_lines=show, sockets=sockets
    ) as ended:
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(ended.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if stop.is_set() and not sockets:
            announce("stopping …")


@asynccontextmanager
async def running_stack(
    settings: Settings,
    catalog: Catalog,
    host: str,
    port: int,
    *,
    with_worker: bool,
    on_lines: Callable[[list[str]], None],
    sockets: Sequence[socket.socket] = (),
) -> AsyncIterator[asyncio.Event]:
    """Run the API, its servers and its worker for the block; stop them in the reverse order.

    Args:
        settings: the settings of the environment.
        catalog: the workflows that can be run.
        host: the address to listen on.
        port: the port, 0 for any free one.
        with_worker: whether to keep a worker.
        on_lines: called with lines for a person once the API serves requests; the first line ends with its URL.
        sockets: the listening sockets of a parent, which migrates and keeps the worker; without them this process does.

    Raises:
        ConfigurationError: something cannot be started; everything that was started is stopped again.
    """
    opened = ExitStack()
    servers = opened.enter_context(servers_of(settings) if sockets else migrated_servers(settings))
    stop, child = asyncio.Event(), WorkerChild(settings)
    tasks: list[asyncio.Task[None]] = []
    started = asyncio.Event()

    def on_started(url: str) -> None:
        on_lines(_lines(settings, services, servers, url, with_worker=with_worker))
        started.set()

    try:
        services = _open(settings, catalog, servers, host, opened)
        serving = serve(create_app(services), host, port, stop=stop, on_started=on_started, sockets=sockets)
        tasks.append(asyncio.create_task(serving))
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait([tasks[0], waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if tasks[0].done():  # it failed before it served; this raises why
            await tasks[0]
        if with_worker and not sockets:
            tasks.append(asyncio.create_task(child.keep_running()))
        # Judges readiness once a second, so that a probe never waits for a check.
        with services.health.monitored():
            yield stop
    finally:
        # The API first stops accepting, then the worker drains, and the servers stop last, because both use them.
        stop.set()
        await child.stop()
        for task in tasks:
            with contextlib.suppress(Exception):
                await task
        opened.close()


def _open(settings: Settings, catalog: Catalog, servers: Servers, host: str, opened: ExitStack) -> Services:
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


def _lines(settings: Settings, services: Services, servers: Servers, url: str, *, with_worker: bool) -> list[str]:
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


def _print(lines: list[str]) -> None:
    announce("\n".join(lines))


def _print_to_parent(lines: list[str]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent has just been killed; standard input will end as well
        os.write(STDOUT, "\n".join([*lines, "", ""]).encode())


def _read_stdin(stop: asyncio.Event) -> None:
    if not os.read(STDIN, 1024):
        asyncio.get_running_loop().remove_reader(STDIN)
        stop.set()
