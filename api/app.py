"""The root application: the id and the size limit of every request, the pages, and the sub-applications.

A sub-application has its own middlewares. They run for every path below its prefix, including paths without a route.
Pages are routes of the root. A path that is neither gets the response that the API would give.
"""

from __future__ import annotations

import asyncio
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Middleware

from api.auth.guard import guard
from api.auth.key_cache import KeyCache
from api.auth.rate_limits import tell_standing
from api.auth.refusals import REFUSALS, noting_refusals
from api.http.addresses import TRUSTED_PROXIES, TrustedProxies
from api.http.problem_types import PROBLEM_TYPES
from api.http.problems import HELD_UP, Handler, problem_middleware, refuse_expectation
from api.http.request_ids import stamp
from api.http.request_metrics import count_requests
from api.http.security_headers import secure
from api.operations.operation import PREFIX
from api.request_log import log_departures, note_sent
from api.request_traces import traced
from api.routes import description
from api.routes.document import openapi_json
from api.routes.table import ROOT_ROUTES, ROUTES
from api.services import SERVICES, Services
from api.ui.errors import accepts_pages, show_errors
from api.ui.places import sign_in_first
from api.ui.table import PAGES, PUBLIC_PATHS
from vm_webapp.access.audit.refusals import RefusalLog

# aiohttp takes the limit from the application that creates the request, which is always the root. A limit set on a
# sub-application would have no effect.
MAX_BODY_BYTES = 1024 * 1024
# What a problem means is the same for everybody, and 401 is one of them.
DOCS = f"{PREFIX}/docs"
OPEN_PATHS = frozenset(
    {route.full_path for route in ROUTES if route.public} | {each.uri for each in PROBLEM_TYPES.values()}
)


def create_app(services: Services) -> web.Application:
    """Return the application over these services; the caller may add sub-applications until it is served."""
    check = noting_refusals(
        guard(
            require_token=services.require_token,
            token=services.settings.api_token,
            keys=KeyCache(services.threads),
            limits=services.rate_limits,
            sessions=services.sessions,
            public_paths=OPEN_PATHS | PUBLIC_PATHS,
        )
    )
    middlewares = [log_departures, count_requests, _outside(check)]
    if services.tracer is not None:
        middlewares.insert(0, traced(services.tracer))
    root = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    root[SERVICES] = services
    root[REFUSALS] = RefusalLog()
    root[HELD_UP] = services.health.what_holds_up
    root[TRUSTED_PROXIES] = TrustedProxies(services.settings.trusted_proxies)
    root.add_subapp(PREFIX, _api(check))
    for route in ROOT_ROUTES:
        _add(root, route.method, route.path, route.__call__)
    for method, path, handler in PAGES:
        _add(root, method, path, handler)
    root.on_response_prepare.append(stamp)
    root.on_response_prepare.append(secure)
    root.on_response_prepare.append(tell_standing)
    root.on_response_prepare.append(note_sent)
    # Streams and waits end at shutdown, before aiohttp waits for requests in flight; the threads close only after those
    # requests have used them.
    root.on_shutdown.append(_close_followers)
    root.on_cleanup.append(_write_refusals)
    root.on_cleanup.append(_close_threads)
    return root


def _api(check: Middleware) -> web.Application:
    # In this order, so that the problem middleware also formats what the guard raises.
    api = web.Application(middlewares=[problem_middleware, check])
    api[description.DESCRIPTION] = openapi_json
    for route in ROUTES:
        _add(api, route.method, route.path, route.__call__)
    return api


def _add(app: web.Application, method: str, path: str, handler: Handler) -> None:
    for each in ("GET", "HEAD") if method == "GET" else (method,):
        app.router.add_route(each, path, handler, expect_handler=refuse_expectation)


def _outside(check: Middleware) -> Middleware:
    """Return the middleware for pages and for paths below no prefix: it applies the API's guard.

    Browsers get errors as pages, all others get the API's problems.
    """

    @web.middleware
    async def respond(request: web.Request, handler: Handler) -> web.StreamResponse:
        # A sub-application handles this request. The problem middleware would turn its redirects and its HTML error
        # pages, which aiohttp raises as exceptions, into problems.
        if len(request.match_info.apps) > 1:
            response = await handler(request)
            # The documentation is part of the API, and read in browsers.
            is_page = request.path.startswith(DOCS) and accepts_pages(request)
            return sign_in_first(request) if is_page and response.status == 401 else response
        # For a path that is neither as well, so that a browser gets a page that leads on.
        return await show_errors(request, partial(check, handler=handler))

    return respond


async def _close_followers(root: web.Application) -> None:
    await root[SERVICES].followers.close()
    await root[SERVICES].changes.close()
    await root[SERVICES].open_streams.close()


async def _write_refusals(root: web.Application) -> None:
    await asyncio.to_thread(root[REFUSALS].close)


async def _close_threads(root: web.Application) -> None:
    await root[SERVICES].rate_limits.close()
    root[SERVICES].threads.close()
    root[SERVICES].health_threads.close()
