"""Reads variables of the environment strictly: an error names the variable and the rule, but never the value."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar
from urllib.parse import urlsplit

from environs import Env, EnvError, validate

from vm_webapp.durations import parse_duration
from vm_webapp.errors import ConfigurationError

Value = TypeVar("Value")

DATABASE_SCHEMES = ("postgres", "postgresql")
PERCENT_ENCODE = "percent-encode each @, : / and % of its user name and password"
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
HOST = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(:\d*)?")
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


class Environment:
    """The variables of the environment; an empty one counts as unset.

    Each method takes the name of a variable and raises ``ConfigurationError`` for a value that is wrong.
    """

    def __init__(self) -> None:
        self._env = Env()

    def text(self, name: str, default: str) -> str:
        """Return the value without white space around it."""
        return str(self._env.str(name, "")).strip() or default

    def token(self, name: str) -> str | None:
        """Return a value that may be sent in a header, such as a key."""
        value = self.text(name, "")
        # It goes into an HTTP header, which a line end would split.
        if not value.isascii() or any(c.isspace() or not c.isprintable() for c in value):
            raise ConfigurationError(f"{name} must be printable ASCII without spaces")
        return value or None

    def boolean(self, name: str) -> bool:
        """Return a switch, which is off by default."""
        return self._parse(name, False, "true or false", lambda: self._env.bool(name))

    def integer(self, name: str, low: int, high: int) -> int | None:
        """Return a whole number from ``low`` to ``high``."""
        rule = f"a whole number from {low} to {high}"
        check = validate.Range(low, high)
        return self._parse(name, None, rule, lambda: self._env.int(name, validate=check))

    def seconds(self, name: str, default: float, *, least: int = 0) -> float:
        """Return a time of up to an hour, in seconds."""
        check = validate.Range(least, 3600)
        rule = f"a number of seconds from {least} to 3600"
        return self._parse(name, default, rule, lambda: self._env.float(name, validate=check))

    def share(self, name: str) -> float:
        """Return a number from 0 to 1, 1 by default."""
        check = validate.Range(0, 1)
        return self._parse(name, 1.0, "a number from 0 to 1", lambda: self._env.float(name, validate=check))

    def parsed(self, name: str, parse: Callable[[str], Value]) -> Value | None:
        """Return what ``parse`` makes of the value; its ``ValueError`` says what the value must be."""
        value = self.text(name, "")
        try:
            return parse(value) if value else None
        except ValueError as error:
            raise ConfigurationError(f"{name} {error}") from None

    def duration(self, name: str, *, least: timedelta = timedelta(0)) -> timedelta | None:
        """Return a duration such as ``30d``; ``least`` is in whole days."""
        length = self.parsed(name, parse_duration)
        if length is not None and length < least:
            raise ConfigurationError(f"{name} must be at least {least.days}d")
        return length

    def one_of(self, name: str, allowed: tuple[str, ...], default: str, *, fold: Callable[[str], str] = str) -> str:
        """Return one of a few words, compared after ``fold``."""
        value = fold(self.text(name, default))
        if value not in allowed:
            raise ConfigurationError(f"{name} must be one of {', '.join(allowed)}")
        return value

    def url(self, name: str, schemes: tuple[str, ...]) -> str | None:
        """Return a URL with one of the schemes."""
        value = self.text(name, "")
        if not value:
            return None
        starts = tuple(f"{scheme}://" for scheme in schemes)
        rule = f"{name} must be a URL that begins with {' or '.join(starts)}"
        try:
            parts = urlsplit(value)
            _ = parts.port  # raises ValueError if it is no port
        except ValueError:
            raise ConfigurationError(rule) from None
        if not value.startswith(starts) or not (parts.netloc or parts.path.strip("/")):
            raise ConfigurationError(rule)
        # libpq and redis-py split such a URL elsewhere than intended and quote part of the password in their errors.
        if parts.netloc.count("@") > 1 or BAD_ESCAPE.search(value):
            raise ConfigurationError(f"{name}: {PERCENT_ENCODE}")
        return value

    def database(self, name: str) -> str | None:
        """Return the address of a database as libpq takes it: a URL, or ``key=value`` pairs."""
        value = self.text(name, "")
        if not value:
            return None
        url = SCHEME.match(value)
        if url is None and "=" in value:
            return value
        if url is None or url[1] not in DATABASE_SCHEMES or not value[url.end() :].strip("/"):
            starts = " or ".join(f"{scheme}://" for scheme in DATABASE_SCHEMES)
            raise ConfigurationError(f"{name} must be a URL that begins with {starts}, or libpq's key=value pairs")
        if problem := _url_problem(value[url.end() :]):
            raise ConfigurationError(f"{name}: {problem}")
        return value

    def public_url(self, name: str) -> str | None:
        """Return a URL to which paths are added: a host and a path, without the parts that are made for secrets."""
        # The model's appears in errors on a run's timeline.
        value = self.url(name, ("http", "https"))
        if value is not None:
            parts = urlsplit(value)
            if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
                raise ConfigurationError(f"{name} must be a host and a path, without user name, password or query")
        return value

    def _parse(self, name: str, default: Value, rule: str, parse: Callable[[], Value]) -> Value:
        if not self.text(name, ""):
            return default
        try:
            return parse()
        # ``from None``: the text of EnvError quotes the value, which may be a secret in the wrong variable.
        except EnvError:
            raise ConfigurationError(f"{name} must be {rule}") from None


def _url_problem(rest: str) -> str:
    """Return why libpq would not understand what follows ``postgresql://`` as it is meant; empty if it would."""
    # libpq ends user name and password at the first @, unless a / comes before it; other characters it takes as they
    # are. What it then takes for the host may be a part of the password.
    credentials, at, after = rest.partition("@")
    if "/" in credentials or not at:
        credentials, after = "", rest
    hosts = re.split("[/?]", after, maxsplit=1)[0].split(",")
    ported = all(HOST.fullmatch(host) for host in hosts)
    if "@" in after.split("?", 1)[0] or BAD_ESCAPE.search(rest) or (at and not credentials and not ported):
        return PERCENT_ENCODE
    return "" if ported else "each host may have a port, which is a number, and an IPv6 address stands in [ ]"
