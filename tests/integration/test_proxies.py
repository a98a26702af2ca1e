"""The proxies' configurations of the documentation, run: what they need to pass on, they do."""

import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.feeds.made_up import FeedFiles
from tests.harness.certificates import self_signed
from tests.harness.feeds import ingest
from tests.harness.processes import PATIENCE, eventually, free_port, make_key
from tests.harness.service import Service, running_service

PAGE = Path(__file__).parents[2] / "docs" / "proxies.md"


def configuration(language: str) -> str:
    """The one block of a language in the page."""
    [block] = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return str(block)


def replaced(text: str, *changes: tuple[str, str]) -> str:
    """The text with each of these, which must be there, as this machine wants it."""
    for what, by in changes:
        assert what in text, what
        text = text.replace(what, by)
    return text


@contextmanager
def nginx(service: Service, folder: Path) -> Iterator[str]:
    port = free_port()
    cert, key = self_signed(folder)
    server = replaced(
        configuration("nginx"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/stores.example.com.pem", str(cert)),
        ("/etc/ssl/stores.example.com.key", str(key)),
        ("http://127.0.0.1:8000", service.base_url),
    )
    file = folder / "nginx.conf"
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        "events {}\n"
        f"http {{ access_log off;\n{temporary}{server}}}\n"
    )
    with running("nginx", "-c", str(file), "-p", str(folder), "-e", str(folder / "error.log")):
        yield f"https://127.0.0.1:{port}"


@contextmanager
def caddy(service: Service, folder: Path) -> Iterator[str]:
    port = free_port()
    site = replaced(
        configuration("caddy"),
        ("stores.example.com {", f"http://127.0.0.1:{port} {{"),
        ("127.0.0.1:8000", service.base_url.removeprefix("http://")),
    )
    file = folder / "Caddyfile"
    file.write_text(f"{{\n admin off\n auto_https off\n}}\n{site}")
    with running("caddy", "run", "--config", str(file), "--adapter", "caddyfile"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running(*command: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


PROXIES = {"nginx": nginx, "caddy": caddy}


@pytest.mark.parametrize("name", PROXIES)
def test_the_documented_proxy_passes_everything_on(
    name: str, database_url: str, feed: FeedFiles, tmp_path: Path
) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    ingest(feed, database_url=database_url, home=tmp_path)
    key = make_key(database_url, tmp_path, "ops")
    with (
        running_service(
            *(database_url, tmp_path),
            STOREWATCH_REQUIRE_KEY="yes",
            STOREWATCH_ROOT_PATH="/storewatch",
        ) as service,
        PROXIES[name](service, tmp_path) as address,
    ):
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        with httpx.Client(base_url=f"{address}/storewatch", verify=trusting, timeout=60) as client:
            eventually(lambda: answers(client))
            assert client.get("/stores").status_code == 401
            client.headers["Authorization"] = f"Bearer {key}"
            page = client.get("/stores?limit=2")
            assert page.links["next"]["url"].startswith("/storewatch/stores?")
            loaded = client.post(
                "/polls", content=feed.polls.read_bytes(), headers={"Content-Type": "text/csv"}
            )
            assert loaded.json()["new"] == 0
            report = client.post("/reports").json()
            assert report["links"]["self"] == f"/storewatch/reports/{report['id']}"
            with client.stream("GET", f"/reports/{report['id']}/events") as events:
                told = "".join(events.iter_text())  # until the stream ends
            assert '"status":"completed"' in told
            file = client.get(f"/reports/{report['id']}/csv")
            again = client.get(
                f"/reports/{report['id']}/csv", headers={"If-None-Match": file.headers["ETag"]}
            )
            assert (file.status_code, again.status_code) == (200, 304)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False
