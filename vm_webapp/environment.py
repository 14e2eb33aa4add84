"""Reads variables of the environment strictly: an error names the variable and the rule, but never the value."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

from environs import Env, EnvError, validate

from vm_webapp.durations import parse_duration
from vm_webapp.errors import ConfigurationError

Value = TypeVar("Value")

DATABASE_SCHEMES = ("postgres", "postgresql")
PERCENT_ENCODE = "percent-encode each @, : / and % of its user name and password"
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
HOST = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::(\d*))?")
NAME_RULE = "what stands between two dots of a host has 1 to 63 characters"
HOST_RULE = "each host may have a port from 1 to 65535, and an IPv6 address stands in [ ]"
REDIS_SCHEMES = ("redis", "rediss", "unix")
REDIS_OPTIONS = ("db", "username", "password")
REDIS_TLS_OPTIONS = tuple(
    f"ssl_{name}" for name in ("cert_reqs", "ca_certs", "ca_path", "certfile", "keyfile", "check_hostname")
)
CERTIFICATE_CHECKS = ("none", "optional", "required")
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


class Environment:
    """The variables of the environment; an empty one counts as unset.

    Each method takes the name of a variable and raises ``ConfigurationError`` for a value that is wrong.
    """

    def __init__(self) -> None:
        self._env = Env()

    def text(self, name: str, default: str) -> str:
        """Return the value without white space around it."""
        value = self._raw(name)
        # Python decodes other bytes to halves of surrogate pairs, which neither libpq, JSON nor PostgreSQL accepts.
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ConfigurationError(f"{name} must be UTF-8")
        return value or default

    def path(self, name: str) -> Path | None:
        """Return a path, whose bytes may be any."""
        value = self._raw(name)
        return Path(value) if value else None

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
            if parts.port == 0:  # raises ValueError if it is no port at all
                raise ValueError
            host = parts.hostname or ""
            host.encode("idna")  # as whoever connects does
        except UnicodeError:
            raise ConfigurationError(f"{name}: {NAME_RULE}") from None
        except ValueError:
            raise ConfigurationError(f"{name}: {HOST_RULE}" if value.startswith(starts) else rule) from None
        if not value.startswith(starts) or not (parts.netloc or parts.path.strip("/")):
            raise ConfigurationError(rule)
        if " " in host or not host.isprintable():
            raise ConfigurationError(f"{name}: a host has no spaces")
        # libpq and redis-py split such a URL elsewhere than intended and quote part of the password in their errors.
        if parts.netloc.count("@") > 1 or BAD_ESCAPE.search(value):
            raise ConfigurationError(f"{name}: {PERCENT_ENCODE}")
        return value

    def redis(self, name: str) -> str | None:
        """Return the URL of a Redis with no other options than those that say where it is and who connects."""
        value = self.url(name, REDIS_SCHEMES)
        if value is not None and (problem := _redis_problem(urlsplit(value))):
            raise ConfigurationError(f"{name}: {problem}")
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

    def _raw(self, name: str) -> str:
        return str(self._env.str(name, "")).strip()

    def _parse(self, name: str, default: Value, rule: str, parse: Callable[[], Value]) -> Value:
        value = self.text(name, "")
        if not value:
            return default
        try:
            # Python's int and float also take 1_000 and the digits of other scripts.
            if "_" in value or not value.isascii():
                raise EnvError
            return parse()
        # ``from None``: the text of EnvError quotes the value, which may be a secret in the wrong variable.
        except EnvError:
            raise ConfigurationError(f"{name} must be {rule}") from None


def _redis_problem(url: SplitResult) -> str:
    """Return why redis-py would not understand a URL as it is meant; empty if it would."""
    # Without a look at them it would take database 0 in place of one that is no number, give every connection that it
    # opens arguments that it does not know, and let options replace the time limits that this program sets.
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    allowed = (*REDIS_OPTIONS, *(REDIS_TLS_OPTIONS if url.scheme == "rediss" else ()))
    if not options.keys() <= set(allowed):
        *others, last = REDIS_TLS_OPTIONS
        return f"after ? stand db, username and password, and with rediss:// {', '.join(others)} and {last}"
    databases = [options["db"]] if "db" in options else []
    if url.scheme != "unix" and url.path.strip("/"):
        databases.append(url.path[1:])
    if not all(re.fullmatch("[0-9]{1,9}", database) for database in databases):
        return "the database is a number, as in redis://host:6379/0"
    if options.get("ssl_cert_reqs", "none") not in CERTIFICATE_CHECKS:
        return f"ssl_cert_reqs must be one of {', '.join(CERTIFICATE_CHECKS)}"
    return ""


def _url_problem(rest: str) -> str:
    """Return why libpq would not understand what follows ``postgresql://`` as it is meant; empty if it would."""
    # libpq ends user name and password at the first @, unless a / comes before it; other characters it takes as they
    # are. What it then takes for the host may be a part of the password.
    credentials, at, after = rest.partition("@")
    if "/" in credentials or not at:
        credentials, after = "", rest
    hosts = re.split("[/?]", after, maxsplit=1)[0].split(",")
    ported = all(_has_valid_port(host) for host in hosts)
    if "@" in after.split("?", 1)[0] or BAD_ESCAPE.search(rest) or (at and not credentials and not ported):
        return PERCENT_ENCODE
    return "" if ported else HOST_RULE


def _has_valid_port(host: str) -> bool:
    match = HOST.fullmatch(host)
    return match is not None and (not match[2] or 1 <= int(match[2][:9]) <= 65_535)
