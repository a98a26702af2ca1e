"""The two first endpoints say in every answer that they are deprecated, and what replaces them."""

import re
from uuid import uuid4

from tests.harness.service import Service


def test_they_say_since_when_and_where_to_read_on(service: Service) -> None:
    operations = {"/trigger_report": "triggerReport", f"/get_report/{uuid4()}": "getReportStatus"}
    for path, operation in operations.items():
        for method in ("GET", "HEAD"):
            answer = service.ask(method, path)
            assert answer.status_code == 200
            assert answer.headers["deprecation"] == "@1795478400"  # 2026-11-24T00:00:00Z
            links = answer.links
            assert links["deprecation"] == {
                "url": f"/schema#/reports/{operation}",
                "rel": "deprecation",
                "type": "text/html",
            }
            assert links["successor-version"]["url"] == "/reports"
    for path in ("/stores", "/reports"):
        assert "deprecation" not in service.get(path).headers


def test_the_document_tells_of_these_headers(service: Service) -> None:
    paths = service.get("/schema/openapi.json").json()["paths"]
    for path in ("/trigger_report", "/get_report/{report_id}"):
        headers = paths[path]["get"]["responses"]["200"]["headers"]
        assert re.search("RFC 9745", headers["Deprecation"]["description"])
        assert {"Deprecation", "Link"} <= set(headers)
