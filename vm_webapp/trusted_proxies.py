"""The proxies in front of the API whose forwarded headers are believed: addresses and networks.

A forwarded header is text that anybody can send. It says who the client is only where the connection comes from a proxy
that wrote the header, or added to it, itself.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

Network = IPv4Network | IPv6Network

WANTED = "must be addresses and networks such as 10.0.0.0/8, separated by commas"

# On Render a connection comes from a private address of the platform, and the entry before it in X-Forwarded-For is an
# edge of Cloudflare's, through which all traffic of the platform arrives (https://www.cloudflare.com/ips/).
PLATFORM_PROXIES: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7"),
            *("173.245.48.0/20", "103.21.244.0/22", "103.22.200.0/22", "103.31.4.0/22", "141.101.64.0/18"),
            *("108.162.192.0/18", "190.93.240.0/20", "188.114.96.0/20", "197.234.240.0/22", "198.41.128.0/17"),
            *("162.158.0.0/15", "104.16.0.0/13", "104.24.0.0/14", "172.64.0.0/13", "131.0.72.0/22"),
            *("2400:cb00::/32", "2606:4700::/32", "2803:f800::/32", "2405:b500::/32", "2405:8100::/32"),
            *("2a06:98c0::/29", "2c0f:f248::/32"),
        ),
    )
)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a list that is separated by commas; a single address is a network of one.

    Raises:
        ValueError: an entry is neither an address nor a network; the message says what is wanted and never quotes it.
    """
    try:
        return tuple(ip_network(entry.strip()) for entry in text.split(","))
    except ValueError:
        raise ValueError(WANTED) from None
