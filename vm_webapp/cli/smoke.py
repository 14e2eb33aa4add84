"""``smoke``: test a deployment, and print a line for each step."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import timedelta

from vm_webapp.access.actor import operator_at_terminal
from vm_webapp.access.keys import create_key, revoke_key
from vm_webapp.cli.database import open_database
from vm_webapp.cli.output import as_called
from vm_webapp.cli.sigterm import SIGTERM_ENDED, cancel_at_sigterm
from vm_webapp.client import open_api
from vm_webapp.errors import ConfigurationError, VMError
from vm_webapp.ops.smoke import Smoke, SmokeOptions, Step, StepFailed
from vm_webapp.settings import Settings

KEY_LASTS = timedelta(minutes=10)


def run_smoke(settings: Settings, options: SmokeOptions, *, as_json: bool) -> int:
    """Execute the steps and print their results.

    Returns:
        0 if all passed, 1 if one failed, 143 if SIGTERM ended the command.

    Raises:
        ConfigurationError: an option needs a variable that is not set.
    """
    if options.expected_build is not None and not settings.api_token:
        raise ConfigurationError("--expect-build requires VM_API_TOKEN: the API shows its build to nobody else")
    try:
        with ExitStack() as undo:
            steps = asyncio.run(_smoke(settings, options, undo, show=_show_nothing if as_json else _show))
    except asyncio.CancelledError:
        return SIGTERM_ENDED
    failed = next((step for step in steps if not step.ok), None)
    total = round(sum(step.seconds for step in steps), 3)
    if as_json:
        report = {
            "ok": failed is None,
            "base_url": options.base_url,
            "failed": failed.name if failed else None,
            "seconds": total,
            "steps": [asdict(step) for step in steps],
        }
        print(json.dumps(report))
    else:
        print(f"smoke failed at {failed.name}" if failed else f"smoke passed in {total:.1f} s")
    return 1 if failed else 0


async def _smoke(
    settings: Settings, options: SmokeOptions, undo: ExitStack, *, show: Callable[[Step], object]
) -> list[Step]:
    # A pipeline that is canceled sends SIGTERM: like Ctrl-C it must cancel the runs and revoke the key.
    cancel_at_sigterm()
    async with open_api(options.base_url, timeout_seconds=options.timeout_seconds) as api:
        return await Smoke(options, api, token=lambda: _token(settings, undo), on_step=show).run()


def _token(settings: Settings, undo: ExitStack) -> str | None:
    """Return the configured token; without one, create a key for ten minutes if the database is configured."""
    if settings.api_token or not settings.db_url:
        return settings.api_token
    try:
        undo.enter_context(open_database(settings))
        # A random name, because two valid keys cannot share one and two pipelines may run at the same time.
        key = create_key(f"smoke-{secrets.token_hex(6)}", actor=operator_at_terminal(), lasts=KEY_LASTS)
    except VMError as error:
        raise StepFailed(f"no VM_API_TOKEN, and no key can be made in VM_DB_URL: {error}") from error
    undo.callback(_revoke, key.name)
    return key.secret


def _revoke(name: str) -> None:
    # The key expires in ten minutes anyway: an unavailable database must not fail a smoke test that has passed.
    with contextlib.suppress(VMError):
        revoke_key(name, actor=operator_at_terminal())


def _show(step: Step) -> None:
    verdict = "ok" if step.ok else "FAILED"
    print(as_called(f"{verdict:7} {step.name:12} {step.seconds:6.2f} s  {step.detail}"), flush=True)


def _show_nothing(step: Step) -> None:
    """Print nothing: standard output is for the JSON alone."""
