"""Settings: how they are written, how a wrong one is refused, and what only looks like one."""

from datetime import timedelta

import pytest

from service.settings import SettingsInvalid, read_settings


@pytest.mark.parametrize(
    ("text", "size"),
    {
        "1073741824": 1 << 30,
        "16GB": 16_000_000_000,
        "16 gb": 16_000_000_000,
        "16GiB": 16 << 30,
        "512 MiB": 512 << 20,
        "16G": 16 << 30,
        "16g": 16 << 30,
        "64k": 64 << 10,
        "1.5 kB": 1500,
        "2TB": 2_000_000_000_000,
        "100 B": 100,
    }.items(),
)
def test_a_size_may_be_written_as_people_do(text: str, size: int) -> None:
    assert read_settings({"STOREWATCH_FEED_BYTES": text}).feed_bytes == size


@pytest.mark.parametrize(
    ("text", "span"),
    {
        "30 days": timedelta(days=30),
        "1 d 12 h": timedelta(hours=36),
        "0": timedelta(),
        "None": timedelta(),
    }.items(),
)
def test_a_lifetime_may_be_written_as_people_do(text: str, span: timedelta) -> None:
    assert read_settings({"STOREWATCH_REPORT_TTL": text}).report_ttl == span


def test_what_is_empty_is_not_set_and_spaces_around_a_value_do_not_count() -> None:
    given = {"STOREWATCH_WORKERS": " 7 ", "STOREWATCH_FEED_BYTES": "", "DATABASE_URL": " "}
    settings = read_settings(given)
    assert (settings.workers, settings.database_url) == (7, None)
    assert settings.feed_bytes == read_settings({}).feed_bytes


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("FEED_BYTES", "16XB", "is not a size such as 16GB, 512 MiB or 1073741824"),
        ("FEED_BYTES", "-1", "is not a size such as"),
        ("FEED_BYTES", "0", "is not a size from 1 byte to 8 EiB"),
        ("FEED_BYTES", "9" * 30 + "TB", "is not a size from 1 byte to 8 EiB"),
        ("REPORT_TTL", "soon", "is not a span of time such as 30d, 2 weeks"),
        ("REPORT_TTL", "9" * 30 + "d", "is longer than 100 years; 0 means for ever"),
        ("WORKERS", "many", "is not a whole number from 1 to 1000"),
        ("WORKERS", "0", "is not a whole number from 1 to 1000"),
        ("PORT", "65536", "is not a whole number from 0 to 65535"),
        (
            "HOME",
            "~nobody-of-that-name/x",
            "begins with the home folder of a user that does not exist",
        ),
        (
            "REPORTS",
            "ftp://x/y",
            "is neither a folder nor a location in an object store (s3://, gs://",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_variable_and_what_is_allowed(
    name: str, value: str, allowed: str
) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        read_settings({f"STOREWATCH_{name}": value})
    assert str(refused.value).startswith(f"STOREWATCH_{name}={value}: {allowed}")


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("STOREWATCH_WORKER", "did you mean STOREWATCH_WORKERS?"),
        ("STOREWATCH_REPORTS_TTL", "did you mean STOREWATCH_REPORT_TTL?"),
        ("STOREWATCH_DATABASE_URL", "did you mean DATABASE_URL?"),
        ("storewatch_workers", "did you mean STOREWATCH_WORKERS?"),
        ("STOREWATCH_ZZZ", "the settings are DATABASE_URL, STOREWATCH_HOME,"),
    ],
)
def test_a_misspelt_variable_is_named_with_what_is_likely_meant(
    variable: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    read_settings({variable: "3"})
    (warning,) = caplog.messages
    assert warning.startswith(f"{variable} is set, but there is no such setting: {meant}")


def test_settings_and_what_kubernetes_sets_for_a_service_of_our_name_are_no_mistakes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = read_settings(
        {
            "STOREWATCH_HOST": "::1",
            "STOREWATCH_PORT": "tcp://10.96.0.7:80",
            "STOREWATCH_PORT_80_TCP": "tcp://10.96.0.7:80",
            "STOREWATCH_PORT_80_TCP_ADDR": "10.96.0.7",
            "STOREWATCH_SERVICE_HOST": "10.96.0.7",
            "STOREWATCH_SERVICE_PORT": "80",
            "STOREWATCH_SERVICE_PORT_HTTP": "80",
            "STOREWATCHER": "somebody else's",
        }
    )
    assert (settings.host, settings.port) == ("::1", 8000)
    assert caplog.messages == []
    assert read_settings({"STOREWATCH_PORT": "9000"}).port == 9000
