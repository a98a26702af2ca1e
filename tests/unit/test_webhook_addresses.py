"""Where webhooks may be sent: to public addresses, and to those that a setting names."""

from ipaddress import ip_address, ip_network

import pytest

from service.webhooks.addresses import is_allowed, url_problem

REFUSED = [
    "127.0.0.1", "127.8.9.10", "0.0.0.0", "10.0.0.7", "172.16.0.1", "192.168.1.1", "100.64.0.1",  # noqa: S104
    "169.254.169.254", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.7",
    "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::a00:7", "2002:7f00:1::",
    "2001:0:1::1", "fe80::1", "fec0::1", "fc00::1", "fd12::1", "ff02::1", "ff0e::1", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_public_is_refused(text: str) -> None:
    assert not is_allowed(ip_address(text), ())


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450::1"])
def test_what_is_public_is_allowed(text: str) -> None:
    assert is_allowed(ip_address(text), ())


def test_a_network_that_is_named_is_allowed_also_as_ipv6_writes_it() -> None:
    allowed = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]
    assert is_allowed(ip_address("10.1.2.3"), allowed)
    assert is_allowed(ip_address("::ffff:10.1.2.3"), allowed)
    assert is_allowed(ip_address("fd12::1"), allowed)
    assert not is_allowed(ip_address("10.2.0.1"), allowed)
    assert not is_allowed(ip_address("127.0.0.1"), allowed)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://example.com/", "is not a URL such as"),
        ("https:///path", "is not a URL such as"),
        ("https://example.com:0/", "is not a URL such as"),
        ("https://example.com:99999/", "is no URL"),
        ("https://[::1/", "is no URL"),
        ("https://user:pass@example.com/", "has a user or a password"),
        ("https://example.com/#part", "has a fragment"),
        ("https://example.com/a b", "percent-encoded"),
        ("https://exämple.com/", "percent-encoded"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254 is not a public address"),
        ("http://[::ffff:127.0.0.1]/", "is not a public address"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_in_words(url: str, problem: str) -> None:
    assert problem in (url_problem(url, ()) or "")


@pytest.mark.parametrize("url", ["https://example.com/hook?token=1", "http://example.com:8080"])
def test_a_url_of_a_name_is_looked_at_when_it_is_connected_to(url: str) -> None:
    assert url_problem(url, ()) is None
