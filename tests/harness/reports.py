"""What tests of reports over HTTP share."""

import httpx

from tests.harness.processes import eventually
from tests.harness.service import Service


def create(service: Service, body: object = None, **headers: str) -> httpx.Response:
    """Ask for a report; `headers` with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.ask("POST", "/reports", json=body, headers=named)


def completed(service: Service, body: object = None) -> str:
    """Ask for a report and wait for it; its path."""
    path: str = create(service, body).headers["Location"]
    eventually(lambda: service.get(path).json()["status"] not in ("queued", "running"))
    assert service.get(path).json()["status"] == "completed"
    return path


def running(service: Service) -> str:
    """Ask for a report and wait until it runs, which it must not end; its path."""
    path: str = create(service).headers["Location"]
    eventually(lambda: service.get(path).json()["status"] == "running")
    return path
