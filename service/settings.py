"""What can be set, from the environment, each with its meaning; a wrong value stops the start."""

import os
from collections.abc import Mapping
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import msgspec

from service.spans import parse_span

#: Schemes of URLs of places in object stores.
OBJECT_STORES = ("s3", "gs", "az", "abfs", "abfss")


class SettingsInvalid(Exception):  # noqa: N818 - read by a person as a sentence
    """An environment variable has a value that cannot be."""


def _default_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/storewatch")
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "storewatch"


class Lifetime(timedelta):
    """How long something is kept; 0: for ever."""


class ReportsPlace(str):
    """A folder, or the URL of a place in an object store."""

    __slots__ = ()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting; `NAME` is read from `STOREWATCH_NAME`, the database from `DATABASE_URL`."""

    #: Where PostgreSQL listens; none: an embedded server of our own, under `home`.
    database_url: str | None = None
    #: Folder for everything that the service keeps on disk.
    home: Path = msgspec.field(default_factory=_default_home)
    #: Where finished reports are kept: a folder or, so that every one of several instances serves
    #: them, s3://bucket/prefix, gs://bucket/prefix or az://account/container; none: `home`/reports.
    reports: ReportsPlace | None = None
    #: How long a finished report's file is kept, such as 30d or 12h; 0: until it is deleted.
    report_ttl: Lifetime = Lifetime(days=30)
    #: Most worker processes, and so most batches in flight; how many really run is measured.
    workers: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 60
    #: Most reports that one instance runs at the same time.
    concurrent_reports: Annotated[int, msgspec.Meta(ge=1, le=100)] = 4
    #: Most reports that wait for their turn, over all instances; one more is refused.
    queued_reports: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 100
    #: Most bytes of a feed of CSV over HTTP, unpacked.
    feed_bytes: Annotated[int, msgspec.Meta(ge=1)] = 16 << 30

    @property
    def reports_place(self) -> str:
        """Where the files of reports appear: a folder or a URL."""
        return self.reports or str(self.home / "reports")


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment.

    Raises:
        SettingsInvalid: a value cannot be; says which, and what is allowed
    """
    environment = os.environ if environment is None else environment
    values: dict[str, str] = {}
    for name in Settings.__struct_fields__:
        variable = _variable(name)
        if environment.get(variable):
            values[name] = environment[variable]
    try:
        return msgspec.convert(values, Settings, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$.")
        name = place.rstrip("`")
        variable = _variable(name)
        raise SettingsInvalid(f"{variable}={values.get(name, '')}: {problem}") from error


def _variable(name: str) -> str:
    return "DATABASE_URL" if name == "database_url" else f"STOREWATCH_{name.upper()}"


def _decode(wanted: type, value: str) -> object:
    if wanted is Path:
        return Path(value).expanduser()
    if wanted is Lifetime:
        return Lifetime(milliseconds=0 if value in ("0", "none") else parse_span(value))
    if wanted is ReportsPlace:
        return ReportsPlace(_checked_place(value))
    raise NotImplementedError(wanted)


def _checked_place(value: str) -> str:
    scheme, is_url, path = value.partition("://")
    if not is_url:
        return str(Path(value).expanduser())
    if scheme == "file" and path.startswith("/"):
        return path
    if scheme not in OBJECT_STORES or not path:
        known = ", ".join(f"{scheme}://" for scheme in OBJECT_STORES)
        raise ValueError(f"is neither a folder nor a place in an object store ({known}…)")
    if find_spec("obstore") is None:
        raise ValueError("needs the extra objectstore: pip install 'storewatch[objectstore]'")
    return value
