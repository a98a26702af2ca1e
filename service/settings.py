"""Every setting, read from the environment, with its meaning; a wrong value prevents the start."""

import ipaddress
import logging
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, TypeAlias, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec

from service.decoding import problem_and_path
from service.spans import read_span

logger = logging.getLogger(__name__)

#: Schemes of URLs of locations in object stores.
OBJECT_STORES = ("s3", "gs", "az", "abfs", "abfss")

_LONGEST_LIFETIME = timedelta(days=36_500)
_SHORTEST_POLL_LIFETIME = timedelta(days=31)
_LONGEST_EVERY = timedelta(days=1)
# K, M, G and T alone are powers of 1024, as in `sort`, `dd` and container limits.
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([kmgt]?)(b?)|([kmgt])ib)", re.ASCII)
_SMALLEST_ROOM = 10_000_000
_SWITCHES = {"yes": 1, "true": 1, "on": 1, "1": 1, "no": 0, "false": 0, "off": 0, "0": 0}
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
# Kubernetes sets such variables in every container for each service of the namespace. For a service
# called `storewatch` they look like settings, for example STOREWATCH_PORT=tcp://10.96.0.7:8000.
_OF_KUBERNETES = re.compile(r"STOREWATCH_(SERVICE_(HOST|PORT(_.+)?)|PORT_[0-9]+_(TCP|UDP|SCTP).*)")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://.*")
#: A path prefix: only characters that need no escaping in a link or a header.
#: A name or an address; one of IPv6 without brackets.
_HOST = re.compile(r"[\w.-]{1,253}|[0-9a-fA-F]*(:[0-9a-fA-F.]*){2,}", re.ASCII)
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.ASCII)
_LONGEST_PREFIX = 200
_LONGEST_TAG = 255

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"


class SettingsInvalid(Exception):  # noqa: N818 - read by a person as a sentence
    """An environment variable has a value that is not allowed."""


def _default_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/storewatch")
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "storewatch"


class Lifetime(timedelta):
    """How long something is kept; 0: for ever."""


class PollLifetime(timedelta):
    """How long polls are kept, at least a month; 0: for ever."""


class Every(timedelta):
    """How often something is done; 0: never."""


class Size(int):
    """A number of bytes."""


class RoomForBodies(int):
    """A number of bytes, at least as many as the largest JSON body has."""


class Switch(int):
    """Yes or no."""


class ReportsLocation(str):
    """A folder, or the URL of a location in an object store."""

    __slots__ = ()


class Places(tuple[str, ...]):
    """Folders, and URLs of locations in object stores, without a slash at the end."""

    __slots__ = ()


class PathPrefix(str):
    """A path below which the service is served, without a slash at its end; may be empty."""

    __slots__ = ()


class Networks(tuple[Network, ...]):
    """Networks of addresses."""

    __slots__ = ()


class Origins(frozenset[str]):
    """Origins of web pages, such as https://example.com; `*` among them: any."""

    __slots__ = ()


class Hosts(frozenset[str]):
    """Names of hosts, in lower case."""

    __slots__ = ()


class PublicUrl(str):
    """A URL that paths come after, without a slash at its end; may be empty."""

    __slots__ = ()


class TagKey(str):
    """The key of a tag; may be empty."""

    __slots__ = ()


class Urls(tuple[str, ...]):
    """URLs of databases."""

    __slots__ = ()


class ClusterAddress(str):
    """The address of a cluster's scheduler."""

    __slots__ = ()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting; `NAME` is read from `STOREWATCH_NAME`, of the database from `DATABASE_…`."""

    #: URL of a PostgreSQL database; none: an embedded server, with its data under `home`.
    database_url: str | None = None
    #: URLs of streaming replicas of that database, with commas between them: reports are read from
    #: those that have caught up.
    database_replicas: Urls = Urls()
    #: Folder for everything that the service keeps on disk.
    home: Path = msgspec.field(default_factory=_default_home)
    #: Address that the service listens on.
    host: str = "127.0.0.1"
    #: Port that the service listens on; 0: any free port.
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8000
    #: Where finished reports are kept: a folder, or an object store (s3://bucket/prefix,
    #: gs://bucket/prefix or az://account/container), from which several instances can serve them;
    #: none: `home`/reports.
    reports: ReportsLocation | None = None
    #: How long a finished report's file is kept, such as 30d or 12 hours; 0: until it is deleted.
    report_ttl: Lifetime = Lifetime(days=30)
    #: How long after its end a report without a file (failed, cancelled or expired) is remembered;
    #: 0: for ever.
    report_history: Lifetime = Lifetime(days=90)
    #: How long polls are kept at least, such as 400d, at least 31d: they go by whole months; 0: for
    #: ever.
    poll_ttl: PollLifetime = PollLifetime()
    #: Where schedules may let reports be delivered to, they or any place below them: folders and
    #: locations in object stores, such as s3://bucket/prefix, with commas between; none: nowhere.
    deliver_to: Places = Places()
    #: Most worker processes, and so most batches in flight; how many run is found by measuring.
    workers: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 60
    #: Scheduler of a Dask cluster that computes reports, such as tls://scheduler:8786; tcp:// on
    #: loopback only; none: the worker processes of this instance do.
    cluster: ClusterAddress | None = None
    #: Most reports that one instance runs at the same time.
    concurrent_reports: Annotated[int, msgspec.Meta(ge=1, le=100)] = 4
    #: Most reports that wait for their turn, over all instances; one more is refused.
    queued_reports: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 100
    #: How often all stores are looked at to tell their states, such as 60s; 0: never, so nothing is
    #: told of all stores together, nor of changes as they happen.
    state_every: Every = Every(seconds=60)
    #: Most bytes of a feed of CSV over HTTP, unpacked, such as 16GB or 512 MiB.
    feed_bytes: Size = Size(16 << 30)
    #: Most connections of clients; none: what the limit of open files allows, up to 10,000.
    connections: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)] | None = None
    #: Most bytes of request bodies that are in memory at once; more wait, then are refused.
    body_bytes: RoomForBodies = RoomForBodies(256 << 20)
    #: Whether requests from this machine need an API key too, as behind a proxy on it.
    require_key: Switch = Switch(False)
    #: File with an API key of scope write, such as a mounted secret; it is made valid at the start.
    key_file: Path | None = None
    #: Host names under which the service may be reached until an API key is made.
    allowed_hosts: Hosts = Hosts()
    #: Path below which a proxy serves the service, such as /storewatch; links include it.
    root_path: PathPrefix = PathPrefix()
    #: Addresses and networks of proxies whose `X-Forwarded-Prefix` counts instead of `root_path`.
    trusted_proxies: Networks = Networks()
    #: Origins of web pages that may read the answers, such as https://example.com; *: any origin.
    cors_origins: Origins = Origins()
    #: Key of a tag, or timezone: /metrics shows availability by it, as the last report over all
    #: stores that is grouped by it alone has it; none: nothing of the kind.
    metrics_tag: TagKey = TagKey()
    #: URL under which receivers of webhooks reach the service, with the path prefix if there is
    #: one: links in events begin with it; none: with `root_path`.
    public_url: PublicUrl = PublicUrl()
    #: Addresses and networks that are not public, to which webhooks may be sent all the same.
    webhook_networks: Networks = Networks()

    @property
    def link_base(self) -> str:
        """What the service's paths come after in links that no request asks for."""
        return self.public_url or self.root_path

    @property
    def reports_location(self) -> str:
        """Where the files of reports appear: a folder or a URL."""
        return self.reports or str(self.home / "reports")


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment; the log warns of variables that look like one but are not.

    Raises:
        SettingsInvalid: a value is not allowed; the message says which, and what is allowed
    """
    environment = os.environ if environment is None else environment
    values: dict[str, str] = {}
    for name in Settings.__struct_fields__:
        value = environment.get(_variable(name), "").strip()
        if value and not (name == "port" and _KUBERNETES_PORT.fullmatch(value)):
            values[name] = value
    _warn_of_unknown(environment)
    try:
        return msgspec.convert(values, Settings, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        problem, name = problem_and_path(error)
        wanted = _whole_number(name) or problem
        # A URL may have a password in it.
        told = "" if name.startswith("database_") else f"={values[name]}"
        raise SettingsInvalid(f"{_variable(name)}{told}: {wanted}") from error


def _variable(name: str) -> str:
    return name.upper() if name.startswith("database_") else f"STOREWATCH_{name.upper()}"


def _whole_number(name: str) -> str | None:
    """What to say of a wrong value, if the setting is a whole number within bounds."""
    hint = get_type_hints(Settings, include_extras=True)[name]
    choices = (hint, *get_args(hint))
    for bounds in (one for choice in choices for one in getattr(choice, "__metadata__", ())):
        return f"is not a whole number from {bounds.ge} to {bounds.le}"
    return None


def _warn_of_unknown(environment: Mapping[str, str]) -> None:
    known = {_variable(name): name.upper() for name in Settings.__struct_fields__}
    for variable in sorted(environment):
        begin, underscore, name = variable.partition("_")
        if (begin + underscore).upper() != "STOREWATCH_" or variable in known:
            continue
        if _OF_KUBERNETES.fullmatch(variable):
            continue
        from difflib import get_close_matches

        near = get_close_matches(name.upper(), known.values(), n=1)
        meant = [variable for variable, name in known.items() if name in near]
        hint = f"did you mean {meant[0]}?" if meant else f"the settings are {', '.join(known)}."
        logger.warning("%s is set, but there is no such setting: %s", variable, hint)


def _decode(wanted: type, value: str) -> object:
    if wanted is Path:
        return _expanded(value)
    if wanted is Lifetime:
        return _lifetime(value)
    if wanted is PollLifetime:
        return _poll_lifetime(value)
    if wanted is Every:
        return _every(value)
    if wanted is RoomForBodies:
        return _room_for_bodies(value)
    if wanted is Switch:
        return _switch(value)
    if wanted is Size:
        return _size(value)
    if wanted is ReportsLocation:
        return ReportsLocation(_checked_location(value))
    if wanted is Places:
        return Places(map(_checked_place, _listed(value)))
    if wanted is Urls:
        return Urls(map(_checked_url, _listed(value)))
    if wanted is ClusterAddress:
        return ClusterAddress(_checked_cluster(value))
    if wanted is PathPrefix:
        return PathPrefix(checked_prefix(value))
    if wanted is Networks:
        return Networks(map(_network, _listed(value)))
    if wanted is Hosts:
        return Hosts(map(_host_name, _listed(value)))
    if wanted is Origins:
        return Origins(map(_checked_origin, _listed(value)))
    if wanted is TagKey:
        return _tag_key(value)
    if wanted is PublicUrl:
        return _public_url(value)
    raise NotImplementedError(wanted)


def _expanded(value: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("begins with the home folder of a user that does not exist") from None


def _lifetime(value: str) -> Lifetime:
    milliseconds = 0 if value.lower() in ("0", "none") else read_span(value)
    if milliseconds > _LONGEST_LIFETIME / timedelta(milliseconds=1):
        raise ValueError("is longer than 100 years; 0 means for ever")
    return Lifetime(milliseconds=milliseconds)


def _poll_lifetime(value: str) -> PollLifetime:
    lifetime = PollLifetime(milliseconds=_lifetime(value) // timedelta(milliseconds=1))
    if timedelta() < lifetime < _SHORTEST_POLL_LIFETIME:
        raise ValueError(
            f"is shorter than {_SHORTEST_POLL_LIFETIME.days} days; polls that are dropped do not "
            "come back; 0 means for ever"
        )
    return lifetime


def _every(value: str) -> Every:
    milliseconds = 0 if value.lower() in ("0", "none") else read_span(value)
    if milliseconds > _LONGEST_EVERY / timedelta(milliseconds=1):
        raise ValueError("is longer than a day; 0 means never")
    return Every(milliseconds=milliseconds)


def _room_for_bodies(value: str) -> RoomForBodies:
    size = _size(value)
    if size < _SMALLEST_ROOM:
        raise ValueError("is less than 10MB, the size that one body may have")
    return RoomForBodies(size)


def _switch(value: str) -> Switch:
    if value.lower() not in _SWITCHES:
        raise ValueError("is neither yes nor no")
    return Switch(_SWITCHES[value.lower()])


def _size(value: str) -> Size:
    found = _SIZE.fullmatch(value.lower())
    if not found:
        raise ValueError("is not a size such as 16GB, 512 MiB or 1073741824")
    number, letter, byte, binary = found.groups()
    base = 1000 if letter and byte else 1024
    size = Size(Decimal(number) * base ** _POWERS[letter or binary or ""])
    if not 1 <= size < 1 << 63:
        raise ValueError("is not a size from 1 byte to 8 EiB")
    return size


def _listed(value: str) -> list[str]:
    return [one.strip() for one in value.split(",") if one.strip()]


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(
            f"{text} is neither an address such as 10.0.0.7 nor a network such as 10.0.0.0/8: "
            f"{error}"
        ) from None


def _host_name(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError(
            f"{text} is not a name such as stores.example.com, without a scheme, port or path"
        )
    return text.lower()


def checked_prefix(text: str) -> str:
    """A path prefix, without a slash at its end; "/" is the empty one.

    Raises:
        ValueError: it is not one, or has characters that would need escaping in a link
    """
    path = text.removesuffix("/")
    dots = {".", ".."} & set(path.split("/"))
    if path and (not _PREFIX.fullmatch(path) or dots or len(path) > _LONGEST_PREFIX):
        raise ValueError(
            "is not a path such as /storewatch, with only letters, digits and . _ ~ - between "
            "slashes"
        )
    return path


def _checked_origin(text: str) -> str:
    if text == "*":
        return text
    try:
        parts = urlsplit(text)
        _ = parts.port  # urlsplit checks the port only when it is read
    except ValueError as error:
        raise ValueError(f"{text} is not an origin: {error}") from None
    origin = f"{parts.scheme}://{parts.netloc}"
    if text.lower() != origin.lower() or not parts.scheme or not parts.hostname or "@" in text:
        raise ValueError(
            f"{text} is not an origin such as https://example.com: a scheme, a host, and a port "
            "unless it is the default one, without a slash at the end"
        )
    return origin.lower()


def _public_url(text: str) -> PublicUrl:
    scheme, colon, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    if scheme.lower() not in ("https", "http") or not colon:
        raise ValueError("is not a URL such as https://stores.example.com/storewatch")
    return PublicUrl(_checked_origin(f"{scheme}://{host}") + checked_prefix(slash + path))


def _tag_key(text: str) -> TagKey:
    if ":" in text or len(text) > _LONGEST_TAG:
        raise ValueError(
            f"is not the key of a tag such as region, without a colon and of up to {_LONGEST_TAG} "
            "characters, or timezone"
        )
    return TagKey(text)


def _checked_place(value: str) -> str:
    try:
        place = _checked_location(value).rstrip("/")
    except ValueError as error:
        raise ValueError(f"{value} {error}") from None
    if "://" not in place and not Path(place).is_absolute():
        raise ValueError(f"{value} is not the absolute path of a folder other than /")
    if ".." in place.split("/") or "?" in place or "#" in place:
        raise ValueError(f"{value} has a part that is `..`, or a `?` or `#`")
    return place


def _checked_location(value: str) -> str:
    scheme, is_url, path = value.partition("://")
    if not is_url:
        return str(_expanded(value))
    if scheme == "file" and path.startswith("/"):
        return path
    if scheme not in OBJECT_STORES or not path:
        known = ", ".join(f"{scheme}://" for scheme in OBJECT_STORES)
        raise ValueError(f"is neither a folder nor a location in an object store ({known}…)")
    if find_spec("obstore") is None:
        raise ValueError("needs the extra objectstore: pip install 'storewatch[objectstore]'")
    return value


def _checked_url(text: str) -> str:
    if urlsplit(text).scheme not in ("postgresql", "postgres"):
        raise ValueError("is not a list of URLs such as postgresql://replica/storewatch")
    return text


def _checked_cluster(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"is not the address of a scheduler: {error}") from None
    if parts.scheme not in ("tls", "tcp") or not parts.hostname or not port or parts.path:
        raise ValueError("is not the address of a scheduler, such as tls://scheduler:8786")
    if parts.scheme == "tcp" and not _is_loopback(parts.hostname):
        raise ValueError(
            "would run whatever anybody on the network sends: tcp:// is for loopback alone, "
            "elsewhere use tls://"
        )
    if find_spec("distributed") is None:
        raise ValueError("needs the extra cluster: pip install 'storewatch[cluster]'")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
