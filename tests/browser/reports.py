"""Reports for the dashboard's tests, asked for over HTTP."""

import time
from typing import Any

from tests.harness.processes import PATIENCE
from tests.harness.service import Service


def completed_report(service: Service, **options: Any) -> dict[str, Any]:
    """Ask for a report and wait until it is completed."""
    asked = service.ask("POST", "/reports", json={"include_unknown": True, **options})
    assert asked.status_code == 202, asked.text
    deadline = time.monotonic() + PATIENCE
    while (report := service.get(asked.headers["location"]).json())["status"] != "completed":
        assert report["status"] in ("queued", "running"), report
        assert time.monotonic() < deadline, "it was never completed"
        time.sleep(0.02)
    found: dict[str, Any] = report
    return found
