"""The services that handlers use, stored under one key of the root application."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from aiohttp import web

from api.auth.rate_limits import RateLimits
from api.auth.sessions import BrowserSessions
from api.auth.sign_in_limit import SignInLimit
from api.http.joint_calls import JointCalls
from api.http.threads import Threads
from api.streams.changes import Changes
from api.streams.followers import Followers
from api.streams.open_streams import OpenStreams
from vm_webapp.access.in_force import find_in_force
from vm_webapp.access.sessions import SessionRules
from vm_webapp.ops.health import HealthChecker
from vm_webapp.ops.scrape import Scraper
from vm_webapp.runs import queries
from vm_webapp.runs.records import Reading
from vm_webapp.settings import Settings
from vm_webapp.tracing.spans import Tracer
from vm_webapp.workflows.loader import Catalog

WAITING_LINE = 256
# A request's limit is longer than the statement time-out; a probe's is shorter than a platform waits for a response.
REQUEST_LIMIT_SECONDS = 15.0
PROBE_LIMIT_SECONDS = 3.0


def database_threads(settings: Settings) -> Threads:
    """Return the threads for requests: one fewer than connections, because the health check needs one as well."""
    return Threads(settings.api_connections - 1, WAITING_LINE, "api", limit_seconds=REQUEST_LIMIT_SECONDS)


@dataclass
class Services:
    """The services of an API process.

    Attributes:
        require_token: whether requests must carry credentials.
        loopback: whether the API listens on a loopback address, which decides about cookies.
        threads: the pool on which the core runs.
        health_threads: the pool on which probes run, so that they never wait behind requests.
        redis_url: the Redis that wakes followers, None to work without one.
        tracer: makes the spans of requests, None to record no traces.
        joint_calls: executes on the threads what arrives at the same time.
        run_texts: the JSON of runs that have been written before, before and after what they wait for.
    """

    settings: Settings
    catalog: Catalog
    health: HealthChecker
    require_token: bool
    loopback: bool = False
    threads: Threads = field(default_factory=lambda: database_threads(Settings()))
    health_threads: Threads = field(default_factory=lambda: Threads(1, 32, "health", limit_seconds=PROBE_LIMIT_SECONDS))
    redis_url: str | None = None
    tracer: Tracer | None = None
    run_texts: WeakKeyDictionary[Reading, tuple[str, str]] = field(default_factory=WeakKeyDictionary)
    joint_calls: JointCalls = field(init=False)
    followers: Followers = field(init=False)
    changes: Changes = field(init=False)
    open_streams: OpenStreams = field(init=False)
    rate_limits: RateLimits = field(init=False)
    sign_in_limit: SignInLimit = field(init=False)
    sessions: BrowserSessions = field(init=False)
    scraper: Scraper = field(default_factory=Scraper)

    def __post_init__(self) -> None:
        self.rate_limits = RateLimits(
            self.threads,
            limit=self.settings.requests_per_minute,
            processes=self.settings.web_concurrency,
            runs_per_day=self.settings.runs_per_day,
        )
        self.sign_in_limit = SignInLimit(self.threads)
        self.joint_calls = JointCalls(self.threads, waiting=WAITING_LINE)
        rules = SessionRules.of(self.settings)
        self.open_streams = OpenStreams(self.threads, lambda callers: find_in_force(callers, rules))
        self.followers = Followers(self.threads, queries.run_heads, self.redis_url)
        self.changes = Changes(self.threads, self._mark)
        self.sessions = BrowserSessions(self.threads, rules, loopback=self.loopback)

    def _mark(self) -> Hashable:
        """Return what differs if a page of many runs has to be read again."""
        health = self.health.latest()
        statuses = {name: facts["status"] for name, facts in health.dependencies.items()} if health else {}
        return queries.read_mark(), frozenset(statuses.items())


SERVICES = web.AppKey("services", Services)


def services(request: web.Request) -> Services:
    """Return the services of the root application."""
    # config_dict also searches the parents of a sub-application; request.app would be the sub-application alone.
    return request.config_dict[SERVICES]
