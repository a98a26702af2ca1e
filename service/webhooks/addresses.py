"""To which addresses webhooks may be sent: to public ones, and to those that a setting names.

Who may make an endpoint must not reach through the service what only the service can reach: its
own machine, the network around it, the metadata of a cloud.
"""

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import urlsplit

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

LONGEST_URL = 2000
#: Forms of IPv6 that lead to an address of IPv4, maybe a private one; some count as global.
_LEADS_TO_IPV4 = tuple(
    ipaddress.ip_network(text)
    for text in (
        "::/96",  # IPv4-compatible, long out of use
        "::ffff:0:0/96",  # IPv4-mapped
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64 of a local network
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
    )
)


class AddressRefused(OSError):  # noqa: N818 - read by a person as a sentence
    """Nothing is sent to this address."""


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether something may be sent to an address.

    Args:
        address: the very one that is connected to
        allowed: networks that are not public, but allowed
    """
    mapped = getattr(address, "ipv4_mapped", None)
    if any(one in network for network in allowed for one in (address, mapped) if one is not None):
        return True
    if isinstance(address, ipaddress.IPv6Address) and (
        address.is_site_local or any(address in network for network in _LEADS_TO_IPV4)
    ):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def check_address(text: str, allowed: Sequence[Network]) -> None:
    """Refuse an address to which nothing may be sent.

    Args:
        text: an address as the system's resolver has it, maybe with a scope, `fe80::1%eth0`
        allowed: as `is_allowed` has it

    Raises:
        AddressRefused: it is refused; the message is for who reads a delivery
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if not is_allowed(address, allowed):
        raise AddressRefused(
            f"{address} is not a public address, and STOREWATCH_WEBHOOK_NETWORKS does not allow it"
        )


def url_problem(url: str, allowed: Sequence[Network]) -> str | None:
    """What is wrong with the URL of an endpoint; None: nothing that can be seen in it.

    What its host resolves to is looked at whenever a connection is made.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        return "has a character that has to be percent-encoded"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        return "is not a URL such as https://example.com/hooks/storewatch"
    if "@" in parts.netloc:
        return "has a user or a password: verify the signature instead"
    if parts.fragment or url.endswith("#"):
        return "has a fragment (#), which is never sent"
    try:
        check_address(parts.hostname, allowed)
    except AddressRefused as refused:
        return f"leads nowhere: {refused}"
    except ValueError:  # a name
        return None
    return None
