"""The application: every route on one page, and what stands around them."""

from __future__ import annotations

import json

from aiohttp import web

from api.auth import guard
from api.keyring import KeyRing
from api.openapi import PREFIX, describe
from api.problems import answer_problems, refuse_expectation
from api.request_ids import stamp
from api.routes import (
    artifacts,
    brands,
    control,
    description,
    events,
    health,
    projects,
    providers,
    queue,
    reviews,
    runs,
    workers,
    workflows,
)
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
    control.cancel_run,
    control.retry_run,
    control.fork_run,
    control.read_archive,
    reviews.list_approvals,
    reviews.approve_stage,
    reviews.request_changes,
    events.list_events,
    artifacts.list_artifacts,
    artifacts.read_artifact,
    brands.create_brand,
    brands.list_brands,
    brands.read_brand,
    brands.change_brand,
    brands.archive_brand,
    projects.create_project,
    projects.list_projects,
    projects.read_project,
    projects.change_project,
    projects.archive_project,
    queue.read_queue,
    queue.pause_queue,
    queue.resume_queue,
    queue.cancel_runs,
    queue.retry_runs,
    providers.resume_provider,
    workers.list_workers,
    description.read_description,
)


def create_app(services: Services) -> web.Application:
    """Return the application over these services."""
    check = guard(
        require_token=services.require_token,
        token=services.settings.api_token,
        keys=KeyRing(services.threads),
        public_paths={PREFIX + route.path for route in ROUTES if route.public},
    )
    app = web.Application(middlewares=[answer_problems, check], client_max_size=MAX_BODY_BYTES)
    app[SERVICES] = services
    app[description.DESCRIPTION] = json.dumps(describe(ROUTES))
    for route in ROUTES:
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            app.router.add_route(method, PREFIX + route.path, route.__call__, expect_handler=refuse_expectation)
    app.on_response_prepare.append(stamp)
    app.on_shutdown.append(_release)
    app.on_cleanup.append(_close)
    return app


async def _release(app: web.Application) -> None:
    await app[SERVICES].watcher.close()
    await app[SERVICES].followers.close()


async def _close(app: web.Application) -> None:
    app[SERVICES].threads.close()
    app[SERVICES].health_threads.close()
