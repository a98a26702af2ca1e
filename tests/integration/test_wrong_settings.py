"""A wrong setting stops a command before it does anything, and is told with what it takes."""

from pathlib import Path

import pytest

from tests.harness.processes import storewatch


@pytest.mark.parametrize(
    ("variable", "wrong", "told"),
    [
        ("STOREWATCH_HOME", "~nobody-of-that-name", "begins with the home folder of a user that"),
        (
            "STOREWATCH_REPORTS",
            "ftp://x/y",
            "is neither a folder nor a location in an",
        ),
        ("STOREWATCH_REPORT_TTL", "soon", "is not a span of time such as 30d"),
        ("STOREWATCH_WORKERS", "0", "is not a whole number from 1 to 1000"),
        ("STOREWATCH_CONNECTIONS", "many", "is not a whole number from 2 to 1000000"),
        ("STOREWATCH_FEED_BYTES", "16XB", "is not a size such as 16GB"),
        ("STOREWATCH_BODY_BYTES", "1MB", "is less than 10MB"),
        ("STOREWATCH_REQUIRE_KEY", "maybe", "is neither yes nor no"),
        ("STOREWATCH_ROOT_PATH", "storewatch", "is not a path such as /storewatch"),
        ("STOREWATCH_TRUSTED_PROXIES", "proxy.internal", "proxy.internal is neither an address"),
        ("STOREWATCH_TRUSTED_PROXIES", "10.0.0.7/8", "10.0.0.7/8 is neither an address such as"),
        ("STOREWATCH_ALLOWED_HOSTS", "http://x/", "http://x/ is not a name such as"),
        ("STOREWATCH_ALLOWED_HOSTS", "x.example:8000", "x.example:8000 is not a name such as"),
        ("STOREWATCH_METRICS_TAG", "region:west", "is not the key of a tag such as region"),
        ("STOREWATCH_CORS_ORIGINS", "example.com", "example.com is not an origin such as https://"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_takes(
    variable: str, wrong: str, told: str, tmp_path: Path
) -> None:
    # Were it not refused, the database would be: nothing answers there.
    nowhere = "postgresql://127.0.0.1:1/x"
    done = storewatch("report", database_url=nowhere, home=tmp_path, stdin=b"", **{variable: wrong})
    assert done.returncode == 2
    assert done.stderr.decode().startswith(f"Error: {variable}={wrong}: {told}")
    assert done.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_none_is_told_without_its_password(tmp_path: Path) -> None:
    done = storewatch("report", database_url="mysql://me:secret@db/stores", home=tmp_path)
    assert done.returncode == 1
    assert "Its form is postgresql://user:password@host:5432/database" in done.stderr.decode()
    assert b"secret" not in done.stderr


@pytest.mark.parametrize("address", ["not a host", "192.0.2.1"])
def test_an_address_that_cannot_be_listened_on_is_refused_before_anything_is_made(
    address: str, tmp_path: Path
) -> None:
    nowhere = "postgresql://127.0.0.1:1/x"
    done = storewatch("serve", database_url=nowhere, home=tmp_path, STOREWATCH_HOST=address)
    assert done.returncode == 2
    assert done.stderr.decode().startswith(f"Error: Cannot listen on {address}, port 8000: ")
    assert b"STOREWATCH_HOST" in done.stderr
