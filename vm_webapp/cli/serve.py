"""``serve``: run the API, and outside managed mode everything that it needs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from vm_webapp.cli.child import WorkerChild
from vm_webapp.cli.collector import resume_collector
from vm_webapp.cli.migrated import migrated_servers
from vm_webapp.cli.output import announce
from vm_webapp.listening import close_all, listen
from vm_webapp.local.by_mode import servers_of
from vm_webapp.parents import Parents, drain_without
from vm_webapp.settings import Settings

if TYPE_CHECKING:
    from vm_webapp.workflows.loader import Catalog

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
    with_worker = with_worker and not settings.managed
    asyncio.run(_serve(settings, _catalog(settings), host, port, with_worker=with_worker, parents=parents))
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
    catalog = _catalog(settings)
    with_worker = with_worker and not settings.managed
    asyncio.run(_serve(settings, catalog, host, port, with_worker=with_worker, parents=Parents(), sockets=sockets))
    return 0


def _catalog(settings: Settings) -> Catalog | None:
    """Load the workflows if some are people's; None leaves it to the start, which does it beside other things."""
    if settings.workflows_path is None:
        return None
    # Before there is an event loop, which would not handle a signal until the last of their templates has been checked.
    from vm_webapp.workflows.loader import load_catalog

    return load_catalog(settings.workflows_path)


async def _serve(
    settings: Settings,
    catalog: Catalog | None,
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
    catalog: Catalog | None,
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
        catalog: the workflows that can be run, None for the bundled ones.
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
        resume_collector()
        on_lines(describe(services, servers, url, with_worker=with_worker))
        started.set()

    try:
        # Before the worker, which would start for nothing if the address is taken.
        listening = list(sockets) or listen(host, port)
        opened.callback(close_all, listening)
        if with_worker and not sockets:
            # Before the rest, because its process starts on another core while this one imports the API.
            tasks.append(asyncio.create_task(child.keep_running()))
            await asyncio.sleep(0)
        # On a thread, so that a signal is handled meanwhile.
        await asyncio.to_thread(import_module, "vm_webapp.cli.api")
        from vm_webapp.cli.api import create_app, describe, load_catalog, open_services, serve

        if catalog is None:
            catalog = await asyncio.to_thread(load_catalog)
        services = open_services(settings, catalog, servers, host, opened)
        serving = asyncio.create_task(
            serve(create_app(services), host, port, stop=stop, on_started=on_started, sockets=listening)
        )
        tasks.append(serving)
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if serving.done():  # it failed before it served; this raises why
            await serving
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


def _print(lines: list[str]) -> None:
    announce("\n".join(lines))


def _print_to_parent(lines: list[str]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent has just been killed; standard input will end as well
        os.write(STDOUT, "\n".join([*lines, "", ""]).encode())


def _read_stdin(stop: asyncio.Event) -> None:
    if not os.read(STDIN, 1024):
        asyncio.get_running_loop().remove_reader(STDIN)
        stop.set()
