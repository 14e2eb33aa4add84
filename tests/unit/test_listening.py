"""The sockets that listen on an address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vm_webapp.errors import ConfigurationError
from vm_webapp.listening import close_all, listen

LOCALHOST = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
]


@contextmanager
def listening(host: str, port: int = 0) -> Iterator[list[tuple[str, int]]]:
    """Listen for the block; yield addresses and ports."""
    sockets = listen(host, port)
    try:
        yield [each.getsockname()[:2] for each in sockets]
    finally:
        close_all(sockets)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_an_address_has_one_socket_and_takes_connections_at_once(host: str) -> None:
    with listening(host) as bound:
        ((address, port),) = bound
        assert address == host
        with socket.create_connection((host, port), timeout=5):
            pass


def test_the_ipv6_wildcard_leaves_ipv4_to_others() -> None:
    with listening("::") as bound, listening("0.0.0.0", bound[0][1]) as other:
        assert other[0][1] == bound[0][1]


def test_a_name_of_several_addresses_has_one_free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: LOCALHOST)
    with listening("localhost") as bound:
        assert [address for address, _ in bound] == ["::1", "127.0.0.1"]
        assert len({port for _, port in bound}) == 1


def test_an_address_that_this_machine_lacks_is_left_out_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [lacking, LOCALHOST[1]])
    with listening("somewhere") as bound:
        assert [address for address, _ in bound] == ["127.0.0.1"]


def test_an_address_that_this_machine_lacks_alone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot assign requested address; choose another"):
        listen("192.0.2.1", 0)


def test_a_name_that_means_no_address_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.invalid:0: .*name.*; choose another with --host"):
        listen("nowhere.invalid", 0)


def test_a_port_that_is_taken_is_refused() -> None:
    with (
        listening("127.0.0.1") as bound,
        pytest.raises(ConfigurationError, match="address already in use; choose another with --host and --port"),
    ):
        listen("127.0.0.1", bound[0][1])


@pytest.mark.parametrize("host", ["x" * 64, ".nowhere", "caf\udce9"])
def test_what_can_be_no_name_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="this can be no name of a host; choose another with --host"):
        listen(host, 0)
