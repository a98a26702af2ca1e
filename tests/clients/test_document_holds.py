"""What the service answers is what its OpenAPI document says, whatever schemathesis sends it."""

import subprocess
import sys
from pathlib import Path
from string import Template

import httpx

from service.feeds.made_up import FeedFiles
from tests.harness.database import ask
from tests.harness.feeds import ingest, read_stores
from tests.harness.processes import PATIENCE, eventually
from tests.harness.service import Service

CONFIG = Path(__file__).parent / "schemathesis.toml"


def test_every_answer_is_as_the_document_says_and_none_is_a_fault_of_the_service(
    service: Service, key: str, feed: FeedFiles, database_url: str, tmp_path: Path
) -> None:
    ingest(feed, database_url=database_url, home=tmp_path)
    config = tmp_path / "schemathesis.toml"
    store, report = read_stores(feed)[0].store_id, completed_report(service, key)
    template = Template(CONFIG.read_text())
    # The key would revoke itself: the least and the largest ids are tried, too.
    ask(database_url, "alter table api_key alter id restart with 4711")
    ask(database_url, "update api_key set id = default")
    hooks = CONFIG.with_name("schemathesis_hooks.py")
    config.write_text(template.substitute(KEY=key, STORE=store, REPORT=report, HOOKS=hooks))
    document = f"{service.base_url}/schema/openapi.json"
    schemathesis = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [schemathesis, "--no-color", "--config-file", config, "run", document],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
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
