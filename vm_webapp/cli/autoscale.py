"""``autoscale``: keep the number of workers at what their work asks for, until it is told to end."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass

from vm_webapp.cli.database import open_database
from vm_webapp.cli.output import announce
from vm_webapp.errors import ConfigurationError
from vm_webapp.ops.autoscale.decider import deciding
from vm_webapp.ops.autoscale.scaler import scaling
from vm_webapp.ops.autoscale.shapes import Limits
from vm_webapp.parents import Parents
from vm_webapp.settings import Settings

CHECK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class AutoscaleOptions:
    """The options of the command; None stands for the setting of the same meaning.

    Attributes:
        service: the platform's id of the workers' service.
        min_workers: fewest workers.
        max_workers: most workers.
        target_wait_seconds: for how long a due stage should wait at most.
        dry_run: only tell and record what would be set.
    """

    service: str | None
    min_workers: int | None
    max_workers: int | None
    target_wait_seconds: float | None
    dry_run: bool


def run_autoscale(settings: Settings, options: AutoscaleOptions, parents: Parents) -> int:
    """Scale until SIGTERM, Ctrl-C or the end of a parent; return the exit code.

    Raises:
        ConfigurationError: the key, the service or a limit is missing or wrong.
    """
    service, limits = service_of(settings, options), limits_of(settings, options)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with open_database(settings), deciding(settings), scaling(settings, limits, service, dry_run=options.dry_run):
        tells = "tells what it would set for" if options.dry_run else "keeps"
        announce(
            f"{tells} {service}: {limits.min_workers} to {limits.max_workers} workers, so that none of the work waits"
            f" for more than {limits.target_wait_seconds:g} s"
        )
        while not stop.wait(CHECK_SECONDS):
            if parents.find_ended():
                break
        announce("stopping …")
    return 0


def service_of(settings: Settings, options: AutoscaleOptions) -> str:
    """Return the service that is scaled.

    Raises:
        ConfigurationError: it is not named, or the key of the platform's API is missing.
    """
    service = options.service or settings.autoscale_service_id
    if settings.render_api_key is None:
        raise ConfigurationError("set RENDER_API_KEY to a key of Render's API (Account Settings, API Keys)")
    if service is None:
        raise ConfigurationError("name the workers' service: --service srv-…, or VM_AUTOSCALE_SERVICE_ID")
    return service


def limits_of(settings: Settings, options: AutoscaleOptions) -> Limits:
    """Return the limits of the options, or of the settings where an option is left out.

    Raises:
        ConfigurationError: the fewest workers are more than the most.
    """
    own = Limits.of(settings)
    limits = Limits(
        own.min_workers if options.min_workers is None else options.min_workers,
        own.max_workers if options.max_workers is None else options.max_workers,
        own.target_wait_seconds if options.target_wait_seconds is None else options.target_wait_seconds,
    )
    if limits.min_workers > limits.max_workers:
        raise ConfigurationError(
            f"the fewest workers (--min or VM_AUTOSCALE_MIN: {limits.min_workers}) must be at most the most"
            f" (--max or VM_AUTOSCALE_MAX: {limits.max_workers})"
        )
    return limits
