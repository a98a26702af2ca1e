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


@pytest.mark.parametrize(
    ("text", "span"),
    [("400d", timedelta(days=400)), ("31 days", timedelta(days=31)), ("0", timedelta())],
)
def test_polls_are_kept_for_a_month_at_least(text: str, span: timedelta) -> None:
    assert read_settings({"STOREWATCH_POLL_TTL": text}).poll_ttl == span
    assert not read_settings({}).poll_ttl


@pytest.mark.parametrize(
    ("text", "span"), [("90 s", timedelta(seconds=90)), ("1d", timedelta(days=1)), ("0", None)]
)
def test_states_are_looked_at_every_so_often_or_never(text: str, span: timedelta | None) -> None:
    assert (read_settings({"STOREWATCH_STATE_EVERY": text}).state_every or None) == span


@pytest.mark.parametrize(
    ("public", "root", "base"),
    [
        ("https://Example.com/storewatch/", "/within", "https://example.com/storewatch"),
        ("http://example.com:8000", "", "http://example.com:8000"),
        ("", "/storewatch", "/storewatch"),
        ("", "", ""),
    ],
)
def test_links_that_no_request_asks_for_begin_with_what_is_known(
    public: str, root: str, base: str
) -> None:
    given = {"STOREWATCH_PUBLIC_URL": public, "STOREWATCH_ROOT_PATH": root}
    assert read_settings(given).link_base == base


def test_what_is_empty_is_not_set_and_spaces_around_a_value_do_not_count() -> None:
    given = {"STOREWATCH_WORKERS": " 7 ", "STOREWATCH_FEED_BYTES": "", "DATABASE_URL": " "}
    settings = read_settings(given)
    assert (settings.workers, settings.database_url) == (7, None)
    assert settings.feed_bytes == read_settings({}).feed_bytes


def test_several_places_stand_with_commas_between() -> None:
    given = {"STOREWATCH_DELIVER_TO": "s3://bucket/out/, /srv/out , file:///mnt/out/"}
    assert read_settings(given).deliver_to == ("s3://bucket/out", "/srv/out", "/mnt/out")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("FEED_BYTES", "16XB", "is not a size such as 16GB, 512 MiB or 1073741824"),
        ("FEED_BYTES", "-1", "is not a size such as"),
        ("FEED_BYTES", "0", "is not a size from 1 byte to 8 EiB"),
        ("FEED_BYTES", "9" * 30 + "TB", "is not a size from 1 byte to 8 EiB"),
        ("REPORT_TTL", "soon", "is not a span of time such as 30d, 2 weeks"),
        ("POLL_TTL", "30d", "is shorter than 31 days; polls that are dropped do not come back"),
        ("REPORT_TTL", "9" * 30 + "d", "is longer than 100 years; 0 means for ever"),
        ("STATE_EVERY", "25h", "is longer than a day; 0 means never"),
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
        ("DELIVER_TO", "/srv, ftp://x/y", "ftp://x/y is neither a folder nor a location"),
        ("DELIVER_TO", "/srv, out", "out is not the absolute path of a folder other than /"),
        ("DELIVER_TO", "/", "/ is not the absolute path of a folder other than /"),
        ("DELIVER_TO", "s3://bucket/a/../b", "s3://bucket/a/../b has a part that is `..`"),
        ("PUBLIC_URL", "stores.example.com", "is not a URL such as https://stores.example.com/"),
        ("PUBLIC_URL", "ftp://example.com", "is not a URL such as https://stores.example.com/"),
        ("PUBLIC_URL", "https://me@example.com/", "https://me@example.com is not an origin such"),
        ("PUBLIC_URL", "https://example.com/a?b", "is not a path such as /storewatch"),
        ("WEBHOOK_NETWORKS", "10.0.0.1/8", "10.0.0.1/8 is neither an address such as 10.0.0.7"),
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
        ("STOREWATCH_ZZZ", "the settings are DATABASE_URL, DATABASE_REPLICAS,"),
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
