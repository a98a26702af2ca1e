"""What the service answers is what its OpenAPI document says, whatever schemathesis sends it."""

import os
import subprocess
import sys
from pathlib import Path

import httpx

from service.made_up_feed import FeedFiles
from tests.integration.service import PATIENCE, Service, eventually, ingest, read_stores

CONFIG = Path(__file__).parent / "schemathesis.toml"


def test_every_answer_is_as_the_document_says_and_none_is_a_fault_of_the_service(
    service: Service, key: str, feed: FeedFiles, database_url: str, tmp_path: Path
) -> None:
    ingest(feed, database_url=database_url, home=tmp_path)
    known = {
        "STOREWATCH_KEY": key,
        "STORE_ID": read_stores(feed)[0].store_id,
        "REPORT_ID": completed_report(service, key),
    }
    document = f"{service.base_url}/schema/openapi.json"
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            *("--no-color", "--config-file", CONFIG),
            *("run", document, "--checks", "all"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | known,
    )
    assert done.returncode == 0, done.stdout + done.stderr + service.log
    assert "Traceback" not in service.log


def completed_report(service: Service, key: str) -> str:
    with httpx.Client(
        base_url=service.base_url,
        headers={"Authorization": f"Bearer {key}"},
        timeout=PATIENCE,
    ) as client:
        report_id: str = client.post("/reports").json()["id"]
        eventually(lambda: client.get(f"/reports/{report_id}").json()["status"] == "completed")
    return report_id
