"""What can be set, from the environment, each with its meaning; a wrong value stops the start."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec


class SettingsInvalid(Exception):  # noqa: N818 - read by a person as a sentence
    """An environment variable has a value that cannot be."""


def _default_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/storewatch")
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "storewatch"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting; `NAME` is read from `STOREWATCH_NAME`, the database from `DATABASE_URL`."""

    #: Where PostgreSQL listens; none: an embedded server of our own, under `home`.
    database_url: str | None = None
    #: Folder for everything that the service keeps on disk.
    home: Path = msgspec.field(default_factory=_default_home)
    #: Folder for finished reports; none: `home`/reports.
    reports: Path | None = None
    #: Most worker processes, and so most batches in flight; how many really run is measured.
    workers: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 60
    #: Most reports that one instance runs at the same time.
    concurrent_reports: Annotated[int, msgspec.Meta(ge=1, le=100)] = 4

    @property
    def reports_folder(self) -> Path:
        """Where `{report_id}.csv` appears."""
        return self.reports or self.home / "reports"


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
    raise NotImplementedError(wanted)
