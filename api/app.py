"""The application: every route on one page, and what stands around them."""

from __future__ import annotations

from aiohttp import web

from api.auth import guard
from api.openapi import PREFIX, describe
from api.problems import answer_problems, refuse_expectation
from api.request_ids import stamp
from api.routes import artifacts, events, health, runs, workflows
from api.services import SERVICES, Services
from api.typed import Operation

MAX_BODY_BYTES = 1024 * 1024

ROUTES: tuple[Operation, ...] = (
    health.live,
    health.ready,
    workflows.list_workflows,
    workflows.read_workflow,
    runs.create_run,
    runs.list_runs,
    runs.read_run,
    events.list_events,
    artifacts.list_artifacts,
    artifacts.read_artifact,
)


def create_app(services: Services) -> web.Application:
    """Return the application over these services."""
    check = guard(require_token=services.require_token, token=services.settings.api_token)
    app = web.Application(middlewares=[answer_problems, check], client_max_size=MAX_BODY_BYTES)
    app[SERVICES] = services
    for route in ROUTES:
        app.router.add_route(route.method, PREFIX + route.path, route.__call__, expect_handler=refuse_expectation)
    document = describe(ROUTES)

    async def openapi(request: web.Request) -> web.Response:
        return web.json_response(document)

    app.router.add_get(f"{PREFIX}/openapi.json", openapi)
    app.on_response_prepare.append(stamp)
    app.on_shutdown.append(_release)
    app.on_cleanup.append(_close)
    return app


async def _release(app: web.Application) -> None:
    await app[SERVICES].watcher.close()


async def _close(app: web.Application) -> None:
    app[SERVICES].threads.close()
    app[SERVICES].health_threads.close()
