"""Reports on a Dask cluster: the same bytes, whatever happens to its processes."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from service.feeds.made_up import FeedFiles, write_feed
from tests.harness.certificates import self_signed
from tests.harness.cluster import Cluster, Process, frozen, kill
from tests.harness.feeds import ingest
from tests.harness.processes import eventually
from tests.harness.reports import completed, create
from tests.harness.service import Service, running_service

_ASKED = {
    "include_unknown": True,
    "windows": ["24h", "previous-week"],
    "group_by": ["timezone"],
    "target": "99%",
}
#: Of workers, which are named by them.
_NUMBERS = count(1)


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> FeedFiles:
    return write_feed(tmp_path_factory.mktemp("feed"), stores=1_600, days=3)  # four parts


@pytest.fixture(scope="module")
def loaded(
    module_database_url: str, feed: FeedFiles, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The DSN of a database with many stores."""
    ingest(feed, database_url=module_database_url, home=tmp_path_factory.mktemp("loads"))
    return module_database_url


@pytest.fixture(scope="module")
def alone(loaded: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """The CSV and the fingerprint that a service made with its own workers, before it ended."""
    with running_service(loaded, tmp_path_factory.mktemp("alone")) as service:
        return _report(service)


@pytest.fixture(scope="module")
def cluster(loaded: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a scheduler and no worker."""
    cluster = Cluster(loaded, tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start_scheduler()
        yield cluster
    finally:
        cluster.end()


@pytest.fixture(scope="module")
def service(
    loaded: str,
    alone: tuple[bytes, str],
    cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("service")
    with running_service(loaded, home, STOREWATCH_CLUSTER=cluster.address) as service:
        yield service


def _workers(service: Service, cluster: Cluster, number: int) -> list[Process]:
    """So many workers of the cluster, which the service knows; those that are there stay."""
    for worker in cluster.workers[number:]:
        kill(worker)
    _wait_for(service, len(cluster.workers))
    while len(cluster.workers) < number:
        cluster.start_worker(f"worker-{next(_NUMBERS)}")
    _wait_for(service, number)
    return cluster.workers


def _wait_for(service: Service, workers: int) -> None:
    def known() -> bool:
        lines = service.log.splitlines()
        told = [line for line in lines if "workers that fit" in line or "cannot use the" in line]
        now = told[-1] if told else ""
        return f" {workers} workers" in now or (not workers and "fit" not in now)

    eventually(known)


def _report(service: Service) -> tuple[bytes, str]:
    return _made(service, completed(service, _ASKED))


def _made(service: Service, path: str) -> tuple[bytes, str]:
    return service.get(f"{path}/rows").content, service.get(path).json()["fingerprint"]


def _begun(service: Service, **more: object) -> str:
    """A report whose parts wait for workers; its path."""
    path: str = create(service, _ASKED | more).headers["Location"]
    eventually(lambda: service.get(path).json()["progress"]["stores_total"])
    return path


def _end_of(service: Service, path: str) -> str:
    eventually(lambda: service.get(path).json()["status"] not in ("queued", "running"))
    return str(service.get(path).json()["status"])


def test_a_cluster_makes_the_same_report_as_an_instance_alone(
    service: Service, cluster: Cluster, alone: tuple[bytes, str]
) -> None:
    path: str = create(service, _ASKED).headers["Location"]
    assert service.get(path).json()["status"] == "queued"  # nobody is there to make it
    _workers(service, cluster, 2)
    assert _end_of(service, path) == "completed"
    assert _made(service, path) == alone
    groups = service.get(f"{path}/groups").json()
    assert sum(group["stores"] for group in groups["items"]) > 0
    assert not service.workers()


def test_a_frozen_worker_holds_nothing_up_for_long(
    service: Service, cluster: Cluster, alone: tuple[bytes, str]
) -> None:
    stopped, _ = _workers(service, cluster, 2)
    with frozen(stopped):
        path = _begun(service)
        assert _end_of(service, path) == "completed"
        assert _made(service, path) == alone


def test_a_cancelled_report_ends_at_once_and_leaves_the_workers_to_others(
    service: Service, cluster: Cluster, alone: tuple[bytes, str]
) -> None:
    with frozen(*_workers(service, cluster, 2)):
        path = _begun(service)
        service.ask("POST", f"{path}/cancel")
        assert _end_of(service, path) == "cancelled"
    assert _report(service) == alone


def test_a_worker_that_is_killed_in_the_middle_takes_nothing_with_it(
    service: Service, cluster: Cluster, alone: tuple[bytes, str]
) -> None:
    killed, stays = _workers(service, cluster, 2)
    with frozen(killed, stays):
        path = _begun(service)
        kill(killed)
    assert _end_of(service, path) == "completed"
    assert _made(service, path) == alone


def test_when_all_workers_are_gone_the_report_waits_for_others(
    service: Service, cluster: Cluster, alone: tuple[bytes, str]
) -> None:
    workers = _workers(service, cluster, 1)
    with frozen(*workers):
        path = _begun(service)
        for worker in workers:
            kill(worker)
    _wait_for(service, 0)
    eventually(lambda: service.get(path).json()["status"] == "queued")
    _workers(service, cluster, 1)
    assert _end_of(service, path) == "completed"
    assert _made(service, path) == alone


_DEADLY = "~deadly"  # the last of all ids
_DIES_OF_IT = f"""
import os
from compute.report_rows import report_rows as rows_as_ever
from service.cluster import part

def report_rows(batch, question):
    if batch.store_ids.endswith({_DEADLY.encode()!r}):
        os._exit(1)
    return rows_as_ever(batch, question)

part.report_rows = report_rows
"""


def test_a_part_that_always_ends_its_worker_fails_its_report_and_no_other(
    service: Service, cluster: Cluster, alone: tuple[bytes, str], tmp_path: Path
) -> None:
    preload = tmp_path / "dies_of_it.py"
    preload.write_text(_DIES_OF_IT)
    _workers(service, cluster, 0)
    worker = cluster.start_worker("comes-back", "--nanny", "--preload", str(preload))
    _wait_for(service, 1)
    service.ask("POST", "/stores", json=[{"store_id": _DEADLY, "tags": {"deadly": "yes"}}])
    try:
        path, others = _begun(service), _begun(service, tags=["deadly:"])
        assert _end_of(service, path) == "failed"
        assert "a worker of the cluster died each time" in service.get(path).json()["error"]
        assert _end_of(service, others) == "completed"
        assert _made(service, others) == alone
    finally:
        service.ask("DELETE", f"/stores/{_DEADLY}")
        kill(worker)


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_when_the_scheduler_is_away_the_report_is_made_with_the_next(
    service: Service, cluster: Cluster, alone: tuple[bytes, str], how: str
) -> None:
    workers = _workers(service, cluster, 1)
    with frozen(*workers):
        path = _begun(service)
        if how == "killed":
            kill(cluster.scheduler)
            eventually(lambda: service.get(path).json()["status"] == "queued")
        else:  # as if the network in between were cut
            with frozen(cluster.scheduler):
                eventually(lambda: service.get(path).json()["status"] == "queued")
            kill(cluster.scheduler)
        for worker in workers:
            kill(worker)
    cluster.start_scheduler()
    _workers(service, cluster, 1)
    assert _end_of(service, path) == "completed"
    assert _made(service, path) == alone


_OTHER_SIDE = "storewatch-test"
_HERE, _THERE = "10.203.77.1", "10.203.77.2"


@pytest.fixture
def other_side() -> Iterator[str]:
    """Another host, as far as the network tells, that is reached by the link of this name."""
    ours, theirs = "sw-here", "sw-there"
    inside = ("netns", "exec", _OTHER_SIDE, "ip")
    commands = (
        ("netns", "add", _OTHER_SIDE),
        ("link", "add", ours, "type", "veth", "peer", theirs, "netns", _OTHER_SIDE),
        ("address", "add", f"{_HERE}/30", "dev", ours),
        ("link", "set", ours, "up"),
        (*inside, "address", "add", f"{_THERE}/30", "dev", theirs),
        (*inside, "link", "set", theirs, "up"),
        (*inside, "link", "set", "lo", "up"),
    )
    try:
        for command in commands:
            if problem := _ip(*command):
                pytest.skip(f"this machine gives no network of its own: {problem}")
        yield ours
    finally:
        _ip("netns", "delete", _OTHER_SIDE)


def _ip(*command: str) -> str:
    """Run `ip`; what it has to say, if it did not do it."""
    ran = subprocess.run(["ip", *command], capture_output=True, text=True)  # noqa: S607
    return ran.stderr if ran.returncode else ""


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root, and the command ip"
)
def test_with_certificates_a_network_that_is_cut_and_healed_changes_nothing(
    service: Service,
    cluster: Cluster,
    loaded: str,
    alone: tuple[bytes, str],
    tmp_path: Path,
    other_side: str,
) -> None:
    _workers(service, cluster, 0)  # or it would make the report instead
    certificate, key = (str(file) for file in self_signed(tmp_path))
    options = ("--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key)
    by = ("ip", "netns", "exec", _OTHER_SIDE)
    there = Cluster(loaded, tmp_path, options, scheme="tls", host=_THERE, by=by)
    settings = {
        "STOREWATCH_CLUSTER": there.address,
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": certificate,
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": certificate,
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": key,
    }
    with ExitStack() as stack:
        stack.callback(there.end)
        there.start_scheduler()
        here = stack.enter_context(running_service(loaded, tmp_path / "home", **settings))
        with frozen(*_workers(here, there, 1)):
            path = _begun(here)
            assert not _ip("link", "set", other_side, "down")
        eventually(lambda: here.get(path).json()["status"] == "queued")
        assert not _ip("link", "set", other_side, "up")
        assert _end_of(here, path) == "completed"
        assert _made(here, path) == alone


def _refused(service: Service, name: str, problem: str) -> bool:
    lines = service.log.splitlines()
    return any(f"worker {name} at" in line and problem in line for line in lines)


def test_a_worker_that_does_not_fit_gets_no_parts_and_is_told_by_name(
    service: Service, cluster: Cluster, postgres_server: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.py"
    other.write_text(
        "import msgspec\nfrom service.cluster import part\n"
        "part.SOFTWARE = msgspec.structs.replace(part.SOFTWARE, tz='2019a')\n"
    )
    _workers(service, cluster, 0)
    unfit = [
        cluster.start_worker("old-tz", "--preload", str(other)),
        cluster.start_worker("elsewhere", DATABASE_URL=postgres_server),
        cluster.start_worker("nowhere", DATABASE_URL="postgresql://127.0.0.1:1/none"),
    ]
    try:
        for name, problem in (
            ("old-tz", "it runs version 2019a of the tz database, this instance"),
            ("elsewhere", "its DATABASE_URL names another database"),
            ("nowhere", "its database: "),
        ):
            eventually(partial(_refused, service, name, problem))
        path: str = create(service, _ASKED).headers["Location"]
        assert service.get(path).json()["status"] == "queued"
        service.ask("POST", f"{path}/cancel")
    finally:
        for worker in unfit:
            kill(worker)
