"""Kubernetes manifests against the published schemas and the service's own numbers; nginx with real replicas behind it.

Needs kubernetes-validate for the schemas, kubectl for what kustomize makes of them, nginx for the rest.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carspotter import __version__
from carspotter.serving.settings import LIVE, MEGABYTE, READY, ServeSettings
from waiting import NEVER_S

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
SETTINGS = ServeSettings()

if not DEPLOY.is_dir():
    pytest.skip("a source distribution has no deploy/", allow_module_level=True)
yaml = pytest.importorskip("yaml")


def loaded(name: str) -> dict[str, Any]:
    """Read a manifest."""
    return dict(yaml.safe_load((KUBERNETES / name).read_text(encoding="utf-8")))


NAMES = loaded("kustomization.yaml")["resources"]


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    return dict(loaded("deployment.yaml")["spec"]["template"])


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    return dict(only)


def test_every_manifest_is_used() -> None:
    assert {path.name for path in KUBERNETES.iterdir()} == {*NAMES, "kustomization.yaml"}


@pytest.mark.parametrize("name", NAMES)
def test_manifests_are_valid(name: str) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    manifest = loaded(name)
    for version in ("1.30", "1.37"):  # the sleep of preStop came with 1.30
        validator.validate(manifest, version, strict=True)
    with pytest.raises(validator.ValidationError):  # strict does look
        validator.validate({**manifest, "spec": {**manifest["spec"], "replica": 2}}, "1.37", strict=True)


def test_everything_is_about_the_same_pods(pod: dict[str, Any]) -> None:
    labels = pod["metadata"]["labels"]
    assert loaded("deployment.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert loaded("service.yaml")["spec"]["selector"] == labels
    assert loaded("disruption.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert loaded("network.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    (spread,) = pod["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels
    target = loaded("autoscaler.yaml")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", loaded("deployment.yaml")["metadata"]["name"])


def test_ports_agree(pod: dict[str, Any], container: dict[str, Any]) -> None:
    (port,) = container["ports"]
    number = str(port["containerPort"])
    options = dict(zip(container["args"][1::2], container["args"][2::2], strict=True))
    assert options["--port"] == number == pod["metadata"]["annotations"]["prometheus.io/port"]
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert f"EXPOSE {number}" in dockerfile
    (served,) = loaded("service.yaml")["spec"]["ports"]
    (let_in,) = loaded("network.yaml")["spec"]["ingress"][0]["ports"]
    assert served["targetPort"] == let_in["port"] == port["name"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]
    (path,) = loaded("ingress.yaml")["spec"]["rules"][0]["http"]["paths"]
    backend = path["backend"]["service"]
    assert (backend["name"], backend["port"]["name"]) == (loaded("service.yaml")["metadata"]["name"], served["name"])


def test_options_and_probes_are_the_services_own(container: dict[str, Any]) -> None:
    from carspotter.cli.serve import serve

    assert container["args"][0] == "serve"
    options = dict(zip(container["args"][1::2], container["args"][2::2], strict=True))
    assert {option.removeprefix("--").replace("-", "_") for option in options} <= set(serve.__annotations__)
    assert options["--host"] == "0.0.0.0"
    assert options["--workers"] == container["resources"]["requests"]["cpu"]  # of the pod, not of its node
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in (LIVE, READY)
    assert container["readinessProbe"]["httpGet"]["path"] == READY
    assert container["livenessProbe"]["httpGet"]["path"] == LIVE


def test_what_was_accepted_is_finished(pod: dict[str, Any], container: dict[str, Any]) -> None:
    needed = container["lifecycle"]["preStop"]["sleep"]["seconds"] + SETTINGS.shutdown_s
    assert pod["spec"]["terminationGracePeriodSeconds"] > needed
    probe = container["readinessProbe"]  # a replica that ends without notice leaves while preStop sleeps
    assert probe["periodSeconds"] * probe["failureThreshold"] <= container["lifecycle"]["preStop"]["sleep"]["seconds"]


def test_a_container_may_little(pod: dict[str, Any], container: dict[str, Any]) -> None:
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    user = spec["securityContext"]
    assert user["runAsNonRoot"] is True
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}" in (ROOT / "docker/Dockerfile").read_text("utf-8")
    assert user["seccompProfile"] == {"type": "RuntimeDefault"}
    allowed = container["securityContext"]
    assert allowed == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    policy = loaded("network.yaml")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []


def test_memory_is_what_was_measured(container: dict[str, Any]) -> None:
    results = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    match = re.search(r"memory \| [^|]*?(\d+) MB at the end", results)
    assert match
    measured = int(match[1])
    assert _bytes(container["resources"]["requests"]["memory"]) >= measured * 10**6
    assert _bytes(container["resources"]["limits"]["memory"]) >= measured * 10**6 + SETTINGS.uploads


def test_keys_are_a_secret_by_reference(pod: dict[str, Any], container: dict[str, Any]) -> None:
    mounted = {mount["name"]: mount for mount in container["volumeMounts"]}
    (secret,) = [volume for volume in pod["spec"]["volumes"] if "secret" in volume]
    options = dict(zip(container["args"][1::2], container["args"][2::2], strict=True))
    assert Path(options["--keys"]).parent == Path(mounted[secret["name"]]["mountPath"])
    assert mounted[secret["name"]]["readOnly"] is True
    text = (KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8")
    assert f"create secret generic {secret['secret']['secretName']} --from-file={Path(options['--keys']).name}" in text
    assert not any(loaded(name)["kind"] == "Secret" for name in NAMES)


def test_one_replica_may_go(container: dict[str, Any]) -> None:
    scaler, disruption = loaded("autoscaler.yaml")["spec"], loaded("disruption.yaml")["spec"]
    assert scaler["minReplicas"] == loaded("deployment.yaml")["spec"]["replicas"] >= 2
    assert disruption["maxUnavailable"] < scaler["minReplicas"]
    assert "cpu" in container["resources"]["requests"]  # or the autoscaler has nothing to divide by


def test_the_image_is_this_version(container: dict[str, Any]) -> None:
    (image,) = loaded("kustomization.yaml")["images"]
    assert image["name"] == container["image"]
    assert image["newTag"] == __version__


def test_kustomize_puts_it_together() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    made = subprocess.run([kubectl, "kustomize", str(KUBERNETES)], capture_output=True, text=True, timeout=NEVER_S)
    assert made.returncode == 0, made.stderr
    manifests = [manifest for manifest in yaml.safe_load_all(made.stdout) if manifest]
    assert len(manifests) == len(NAMES)
    assert {manifest["metadata"]["namespace"] for manifest in manifests} == {loaded("kustomization.yaml")["namespace"]}


# ---- load balancers


def _bytes(text: str) -> int:
    """Read a size such as 512Mi, 20m."""
    units = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    match = re.fullmatch(r"(\d+)(\w+)", text)
    assert match, text
    return int(match[1]) * units[match[2]]


def nginx_settings() -> dict[str, str]:
    """Read the directives of nginx.conf, the last one of a name."""
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    return {line[0]: line[1] for line in re.findall(r"^\s*(\w+) ([^;{]+);", text, flags=re.MULTILINE)}


@pytest.mark.parametrize("where", ["nginx", "ingress"])
def test_proxies_let_through_what_the_service_takes(where: str) -> None:
    if where == "nginx":
        found = nginx_settings()
        names = ("client_max_body_size", "client_body_buffer_size", "proxy_read_timeout", "proxy_next_upstream")
        body, buffer, wait, again = (found[name] for name in names)
    else:
        notes = loaded("ingress.yaml")["metadata"]["annotations"]
        names = ("proxy-body-size", "client-body-buffer-size", "proxy-read-timeout", "proxy-next-upstream")
        body, buffer, wait, again = (notes[f"nginx.ingress.kubernetes.io/{name}"] for name in names)
    assert SETTINGS.uploads < _bytes(body) <= SETTINGS.uploads + 2 * MEGABYTE
    assert _bytes(buffer) > SETTINGS.max_bytes
    assert float(wait.removesuffix("s")) > SETTINGS.timeout_s
    assert {"error", "timeout", "http_429", "http_503", "non_idempotent"} == set(again.split())


def test_caddy_lets_through_what_the_service_takes() -> None:
    (size,) = re.findall(r"max_size (\d+)MiB", (DEPLOY / "Caddyfile").read_text(encoding="utf-8"))
    assert SETTINGS.uploads < int(size) * MEGABYTE <= SETTINGS.uploads + 2 * MEGABYTE


@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_nginx_reads_its_file(tmp_path: Path) -> None:
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8").replace("/tmp/", f"{tmp_path}/")
    file = tmp_path / "nginx.conf"
    for content, is_right in ((text, True), (text.replace("least_conn;", "least_con;"), False)):
        file.write_text(content.replace("/dev/shm/", f"{tmp_path}/"))
        done = subprocess.run([str(NGINX), "-t", "-c", str(file)], capture_output=True, text=True, timeout=NEVER_S)
        assert (done.returncode == 0) is is_right, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_clients_notice_no_restart_no_death_and_no_full_replica(tmp_path: Path) -> None:
    from tiny_bundles import tiny_finder, tiny_identifier

    tiny_finder(tmp_path / "finder")
    tiny_identifier(tmp_path / "identifier")
    command = [
        sys.executable,
        str(ROOT / "benchmarks/serving/balance.py"),
        "--seconds",
        "5",
        "--finder",
        str(tmp_path / "finder"),
        "--identifier",
        str(tmp_path / "identifier"),
        "--only",
        "rolling",
        "killed",
        "full",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=NEVER_S, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {row["part"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows["rolling"]["failed"] == rows["killed"]["failed"] == rows["full"]["failed"] == 0, rows
    assert rows["rolling"]["replicas ended"] >= 2 <= rows["killed"]["replicas ended"]
    assert rows["full"]["429 of the full replica"] > 0
