"""The settings of a command, with logging set up by them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vm_webapp.settings import Settings


def read_environment(*, quiet: bool = False, remote: bool = False) -> Settings:
    """Return the settings, and log as they say.

    Args:
        quiet: log errors alone, for a command whose output is for people; not where LOG_LEVEL asks for more.
        remote: the command works over an API: what the mode needs is that one's concern.

    Raises:
        ConfigurationError: a variable is wrong or missing.
    """
    from vm_webapp.settings import read_settings

    settings = read_settings(complete=not remote)
    from vm_webapp.logs import configure_logging

    if quiet and settings.log_level == "INFO":
        settings = replace(settings, log_level="ERROR")
    configure_logging(settings.log_level, json=settings.managed)
    return settings
