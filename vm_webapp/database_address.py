"""The address of a database as libpq takes it: a URL, or key=value pairs."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from vm_webapp.errors import ConfigurationError
from vm_webapp.text import first_line

# libpq reads these only when it connects to a server, and some of them not always.
NUMBERS = (
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    *(f"keepalives_{of}" for of in ("idle", "interval", "count")),
)
NUMBER = re.compile(r"\s*[-+]?[0-9]{1,9}\s*", re.ASCII)
NO_SOCKET = f"/{120 * '-'}"  # longer than the path of a socket can be


def parse_address(address: str, variable: str = "VM_DB_URL") -> dict[str, str]:
    """Return libpq's connection parameters of an address.

    Args:
        address: a ``postgresql://`` or ``postgres://`` URL, or ``key=value`` pairs, such as ``service=vm``.
        variable: the variable that holds it, for the error.

    Raises:
        ConfigurationError: libpq does not understand it; the text does not show it.
    """
    try:
        parameters: dict[str, str] = parse_dsn(address)
    except psycopg2.ProgrammingError:
        # ``from None``: the text of this error quotes the address with its password.
        raise ConfigurationError(f"{variable} is not a PostgreSQL URL that libpq understands") from None
    return parameters


def check_address(address: str, variable: str = "VM_DB_URL") -> None:
    """Refuse an address that libpq could connect with to no server at all; no server is asked.

    Args:
        address: as of ``parse_address``.
        variable: the variable that holds it, for the error.

    Raises:
        ConfigurationError: libpq does not understand it, a parameter has a value that libpq refuses, or the service or
            the file that it names does not exist. The text shows no value but the name of the service.
    """
    parameters = parse_address(address, variable)
    if problem := _own_problem(parameters) or _problem_of_libpq(parameters):
        raise ConfigurationError(f"{variable}: {problem}")


def _own_problem(parameters: Mapping[str, str]) -> str:
    for name in NUMBERS:
        if not NUMBER.fullmatch(parameters.get(name) or "0"):
            return f"{name} must be a whole number"
    if not all(map(_is_numeric, filter(None, parameters.get("hostaddr", "").split(",")))):
        return "hostaddr must be an IP address: a name belongs in host"
    file = parameters.get("sslrootcert")
    if parameters.get("sslmode", "").startswith("verify-") and file not in (None, "", "system"):
        try:
            with Path(str(file)).open("rb"):
                pass
        except OSError as error:
            return f"the file that sslrootcert names cannot be read: {error.strerror}"
    return ""


def _is_numeric(address: str) -> bool:
    try:
        return bool(socket.getaddrinfo(address, None, flags=socket.AI_NUMERICHOST))
    except OSError:
        return False


def _problem_of_libpq(parameters: Mapping[str, str]) -> str:
    """Return why libpq refuses the parameters before it connects, in its own words; empty if it would connect."""
    # It checks them, with what the environment and a service file add, and only then fails for want of a socket. The
    # empty values keep the environment and the service from naming a server that would really be connected to.
    hosts = parameters.get("hostaddr") or parameters.get("host") or parameters.get("port", "")
    nowhere = {
        "host": ",".join(NO_SOCKET for _ in hosts.split(",")),
        "hostaddr": "",
        "port": parameters.get("port", ""),
        "password": "none",  # so that no file is looked into for one
    }
    if parameters.get("gssencmode", "") in ("", "disable", "prefer", "require"):
        nowhere["gssencmode"] = "disable"  # a socket has no other
    try:
        psycopg2.connect(make_dsn(**{**parameters, **nowhere})).close()
    except psycopg2.Error as error:
        if NO_SOCKET in str(error):
            return ""
        said = first_line(error)
        for name, value in parameters.items():
            said = said if name == "service" else said.replace(f'"{value}"', '"…"')
        return said
    return ""
