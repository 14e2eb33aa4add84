"""What handlers need, found under one key of the application."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import web

from api.threads import Threads
from api.watch import RunWatcher
from vm_webapp.ops.health import HealthChecker
from vm_webapp.runs import queries
from vm_webapp.settings import Settings
from vm_webapp.workflows.loader import Catalog

DATABASE_THREADS = 7  # and one for health: eight connections a process
WAITING_LINE = 256


@dataclass
class Services:
    """The parts of an API process.

    Attributes:
        require_token: whether the door is shut.
        threads: where the core runs.
        health_threads: where probes run, so that they never wait behind requests.
    """

    settings: Settings
    catalog: Catalog
    health: HealthChecker
    require_token: bool
    threads: Threads = field(default_factory=lambda: Threads(DATABASE_THREADS, WAITING_LINE, "api"))
    health_threads: Threads = field(default_factory=lambda: Threads(1, 32, "health"))
    watcher: RunWatcher = field(init=False)

    def __post_init__(self) -> None:
        self.watcher = RunWatcher(self.threads, queries.run_statuses)


SERVICES = web.AppKey("services", Services)


def services(request: web.Request) -> Services:
    """Return the services of the application that a request reached."""
    return request.app[SERVICES]
