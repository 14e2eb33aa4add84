"""Reads the settings of a command and configures logging."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vm_webapp.settings import Settings


def read_environment(*, quiet: bool = False, remote: bool = False) -> Settings:
    """Return the settings, and configure logging by them.

    Args:
        quiet: log only errors, for a command whose output is for people; an explicit LOG_LEVEL takes precedence.
        remote: the command works over an API, so the variables that the mode requires may be missing here.

    Raises:
        ConfigurationError: a variable is wrong or missing.
    """
    from vm_webapp.core_files import forbid_core_files
    from vm_webapp.settings import read_settings

    forbid_core_files()
    settings = read_settings(complete=not remote)
    from vm_webapp.logs import configure_logging

    if quiet and settings.log_level == "INFO":
        settings = replace(settings, log_level="ERROR")
    configure_logging(settings.log_level, json=settings.managed)
    return settings
