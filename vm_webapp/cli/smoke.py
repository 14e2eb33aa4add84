"""``smoke``: whether a deployment works, a line per step."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import timedelta

from vm_webapp.access.keys import create_key, revoke_key
from vm_webapp.cli.database import open_database
from vm_webapp.client import open_api
from vm_webapp.errors import ConfigurationError, VMError
from vm_webapp.ops.smoke import Smoke, SmokeOptions, Step, StepFailed
from vm_webapp.settings import Settings

KEY_LASTS = timedelta(minutes=10)


def run_smoke(settings: Settings, options: SmokeOptions, *, as_json: bool) -> int:
    """Make the steps and say how they went; return the exit code.

    Raises:
        ConfigurationError: something that the options need is missing.
    """
    if options.expected_build is not None and not settings.api_token:
        raise ConfigurationError("--expect-build requires VM_API_TOKEN: the build is told to nobody else")
    with ExitStack() as undo:
        steps = asyncio.run(_smoke(settings, options, undo, say=_say_nothing if as_json else _say))
    failed = next((step for step in steps if not step.ok), None)
    total = round(sum(step.seconds for step in steps), 3)
    if as_json:
        told = {
            "ok": failed is None,
            "base_url": options.base_url,
            "failed": failed.name if failed else None,
            "seconds": total,
            "steps": [asdict(step) for step in steps],
        }
        print(json.dumps(told))
    else:
        print(f"smoke failed at {failed.name}" if failed else f"smoke passed in {total:.1f} s")
    return 1 if failed else 0


async def _smoke(
    settings: Settings, options: SmokeOptions, undo: ExitStack, *, say: Callable[[Step], object]
) -> list[Step]:
    # Pipelines end what they give up with SIGTERM: like Ctrl-C it cancels the runs and revokes the key.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signal.raise_signal, signal.SIGINT)
    async with open_api(options.base_url, answer_seconds=options.answer_seconds) as api:
        return await Smoke(options, api, token=lambda: _token(settings, undo), on_step=say).run()


def _token(settings: Settings, undo: ExitStack) -> str | None:
    """Return the token of the settings; else a key of our own for ten minutes, where we have the database."""
    if settings.api_token or not settings.db_url:
        return settings.api_token
    try:
        undo.enter_context(open_database(settings))
        key = create_key(f"smoke-{secrets.token_hex(6)}", lasts=KEY_LASTS)
    except VMError as error:
        raise StepFailed(f"no VM_API_TOKEN, and no key can be made in VM_DB_URL: {error}") from error
    undo.callback(_revoke, key.name)
    return key.secret


def _revoke(name: str) -> None:
    # It ends by itself in a few minutes: a database that has gone away is no reason to fail at the end.
    with contextlib.suppress(VMError):
        revoke_key(name)


def _say(step: Step) -> None:
    print(f"{'ok' if step.ok else 'FAILED':7} {step.name:12} {step.seconds:6.2f} s  {step.detail}", flush=True)


def _say_nothing(step: Step) -> None:
    """Standard output is for the JSON alone."""
