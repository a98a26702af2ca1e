"""The manifests for Kubernetes are valid, ask for no rights, and name settings that there are."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.api import operations
from service.settings import Settings, read_settings

FOLDER = Path(__file__).parents[2] / "docs" / "kubernetes"
MANIFESTS = [
    (file.name, manifest)
    for file in sorted(FOLDER.glob("*.yaml"))
    if file.name != "kustomization.yaml"
    for manifest in yaml.safe_load_all(file.read_text())
]
PODS = [
    (f"{manifest['kind']}-{manifest['metadata']['name']}", manifest["spec"]["template"]["spec"])
    for _, manifest in MANIFESTS
    if "template" in manifest.get("spec", {})
]


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(one, id=f"{file}-{one['kind']}-{one['metadata']['name']}")
        for file, one in MANIFESTS
    ],
)
def test_a_manifest_is_valid(manifest: dict[str, Any]) -> None:
    newest = kubernetes_validate.latest_version()
    kubernetes_validate.validate(manifest, newest, strict=True)


def test_the_kustomization_names_all_but_the_job() -> None:
    told = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert {*told["resources"], "migrate.yaml"} == {file for file, _ in MANIFESTS}


@pytest.mark.parametrize("pod", [pytest.param(pod, id=name) for name, pod in PODS])
def test_a_pod_has_no_rights_and_bounded_memory(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_every_deployment_is_protected_or_alone() -> None:
    budgets = {one["metadata"]["name"] for _, one in MANIFESTS if one["kind"].endswith("Budget")}
    several = {
        one["metadata"]["name"]
        for _, one in MANIFESTS
        if one["kind"] == "Deployment" and one["spec"]["replicas"] > 1
    }
    assert budgets == several


def test_settings_and_probes_are_those_of_the_service() -> None:
    [values] = [one["data"] for _, one in MANIFESTS if one["kind"] == "ConfigMap"]
    ours = {name: value for name, value in values.items() if name.startswith("STOREWATCH_")}
    assert {name.removeprefix("STOREWATCH_").lower() for name in ours} <= {
        *Settings.__struct_fields__
    }
    read_settings(ours)
    paths = {path for handler in operations.ROUTES for path in handler.paths}
    probes = [
        container[probe]["httpGet"]["path"]
        for _, pod in PODS
        for container in pod["containers"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        if "httpGet" in container.get(probe, {})
    ]
    assert len(probes) == 3
    assert {*probes} <= paths
