"""The root application: ids and limits of every request, and its rooms, which are sub-applications.

A room has middlewares of its own, which run for every path below its prefix, those that it does not know included. What
lies below no prefix is answered as the API would.
"""

from __future__ import annotations

import json
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Middleware

from api.auth.bearer import guard
from api.auth.key_ring import KeyRing
from api.http.problems import Handler, answer_problems, refuse_expectation
from api.http.request_ids import stamp
from api.operations.openapi import describe
from api.operations.operation import PREFIX
from api.routes import description
from api.routes.table import ROUTES
from api.services import SERVICES, Services

# The application that makes the request counts its bytes, and that is this one; a room's own limit would do nothing.
MAX_BODY_BYTES = 1024 * 1024


def create_app(services: Services) -> web.Application:
    """Return the application over these services; further rooms may be added until it is served."""
    check = guard(
        require_token=services.require_token,
        token=services.settings.api_token,
        keys=KeyRing(services.threads),
        public_paths={PREFIX + route.path for route in ROUTES if route.public},
    )
    root = web.Application(middlewares=[_outside(check)], client_max_size=MAX_BODY_BYTES)
    root[SERVICES] = services
    root.add_subapp(PREFIX, _api(check))
    root.on_response_prepare.append(stamp)
    root.on_shutdown.append(_release)
    root.on_cleanup.append(_close)
    return root


def _api(check: Middleware) -> web.Application:
    api = web.Application(middlewares=[answer_problems, check])
    api[description.DESCRIPTION] = json.dumps(describe(ROUTES))
    for route in ROUTES:
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            api.router.add_route(method, route.path, route.__call__, expect_handler=refuse_expectation)
    return api


def _outside(check: Middleware) -> Middleware:
    """Return the middleware for what no room has taken: the API's guard, and problems; rooms are left to their own."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if len(request.match_info.apps) > 1:
            return await handler(request)
        return await answer_problems(request, partial(check, handler=handler))

    return answer


async def _release(root: web.Application) -> None:
    await root[SERVICES].followers.close()


async def _close(root: web.Application) -> None:
    root[SERVICES].threads.close()
    root[SERVICES].health_threads.close()
