"""The address of a database as libpq takes it: a URL, or key=value pairs."""

from __future__ import annotations

import psycopg2
from psycopg2.extensions import parse_dsn

from vm_webapp.errors import ConfigurationError


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
