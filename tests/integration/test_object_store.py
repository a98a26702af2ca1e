"""Reports in an object store: an S3 server in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from obstore.store import S3Store

from tests.integration.service import (
    add_many_stores,
    eventually,
    free_port,
    running_service,
)


@pytest.fixture
def s3() -> Iterator[dict[str, str]]:
    """What the environment says of a bucket `reports`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: _answers(url))
            httpx.put(f"{url}/reports").raise_for_status()
            yield {
                "STOREWATCH_REPORTS": "s3://reports/made",
                "AWS_ENDPOINT": url,
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "any",
                "AWS_SECRET_ACCESS_KEY": "any",
                "AWS_REGION": "us-east-1",
            }
        finally:
            server.kill()


def bucket(s3: dict[str, str]) -> S3Store:
    """The bucket, past the service."""
    return S3Store(
        "reports",
        endpoint=s3["AWS_ENDPOINT"],
        region=s3["AWS_REGION"],
        access_key_id=s3["AWS_ACCESS_KEY_ID"],
        secret_access_key=s3["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
    )


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def test_every_instance_serves_what_one_put_into_the_object_store(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    expected = add_many_stores(database_url, 5000)
    with running_service(database_url, tmp_path / "one", **s3) as makes:
        path = makes.ask("POST", "/reports").headers["Location"]
        eventually(lambda: makes.get(path).json()["status"] == "completed")
        assert list((tmp_path / "one" / "unfinished").iterdir()) == []
    with running_service(database_url, tmp_path / "two", **s3) as serves:
        csv = serves.get(f"{path}/csv")
        assert csv.content == expected
        part = serves.get(f"{path}/csv", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, expected[10:20])
        assert serves.ask("HEAD", f"{path}/csv").status_code == 200
        key = f"made/{path.removeprefix('/reports/')}.csv"
        assert bytes(bucket(s3).get(key).bytes()) == expected
        assert serves.ask("DELETE", path).status_code == 204
        assert list(bucket(s3).list()) == []


def test_a_report_whose_object_is_lost_is_gone(
    database_url: str, tmp_path: Path, s3: dict[str, str]
) -> None:
    add_many_stores(database_url, 10)
    with running_service(database_url, tmp_path, **s3) as service:
        path = service.ask("POST", "/reports").headers["Location"]
        eventually(lambda: service.get(path).json()["status"] == "completed")
        report_id = path.removeprefix("/reports/")
        bucket(s3).delete(f"made/{report_id}.csv")
        assert service.get(f"{path}/csv").status_code == 410
