"""docker-compose.yml and what it mounts: valid, in step with the image, and nothing in the open."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from federated.keys import main as keys
from proxy.settings import load_settings
from tests.deploy.dockerfile import ROOT, stages
from tests.deploy.test_image import tool
from tests.harness import free_port

FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PAGE = (ROOT / "docs" / "deployment.md").read_text()
FEDERATED = (ROOT / "docs" / "federated.md").read_text()
KEYS = '[{"sha256": "' + "0" * 64 + '"}]'


def examples(marker: str) -> list[Any]:
    """Return the documents of the deployment page's YAML examples that hold `marker`."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    plain = [block.replace("!override ", "") for block in blocks]  # Compose's own tag
    return [d for block in plain if marker in block for d in yaml.safe_load_all(block)]


def schema_faults(file: Path) -> str:
    """Return what Compose's own schema says against a file."""
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(file)]
    answer = subprocess.run(command, capture_output=True, text=True)
    return "" if answer.returncode == 0 else answer.stdout + answer.stderr


def test_the_file_and_the_pages_examples_fit_the_compose_schema(tmp_path: Path) -> None:
    assert schema_faults(FILE) == ""
    found = examples("services:")
    assert len(found) >= 2
    for number, example in enumerate(found):
        file = tmp_path / f"{number}.yml"
        file.write_text(yaml.safe_dump(example))
        assert schema_faults(file) == ""


def test_the_schema_sees_a_fault(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text("services: {a: {image: b, prots: ['1:1']}}")
    assert "prots" in schema_faults(bad)


def test_what_services_name_is_defined() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"]), name
        assert set(service["networks"]) <= set(COMPOSE["networks"]), name
        assert set(service.get("depends_on", ())) <= set(SERVICES), name
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
                assert volume.endswith(":ro"), volume
            else:
                assert source in COMPOSE["volumes"], source


def test_every_service_is_shut_in() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), port
    assert "ports" not in SERVICES["redis"] and SERVICES["redis"]["networks"] == ["back"]
    assert COMPOSE["networks"]["back"]["internal"]


def test_secrets_come_by_file_and_stay_out_of_the_repository() -> None:
    for name, secret in COMPOSE["secrets"].items():
        assert list(secret) == ["file"], name
        ignored = subprocess.run(["git", "check-ignore", "-q", secret["file"]], cwd=ROOT)
        assert ignored.returncode == 0, name
    for name, service in SERVICES.items():
        for variable in service.get("environment", {}):
            secret = re.search("PASSWORD|SECRET|TOKEN|API_KEY", variable)
            assert secret is None or variable.endswith("_KEY_FILE"), f"{name}: {variable}"
    assert SERVICES["nearhit"]["environment"]["OPENAI_API_KEY_FILE"].startswith("/run/secrets/")


def test_services_wait_until_what_they_need_is_healthy() -> None:
    assert SERVICES["nearhit"]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert SERVICES["prometheus"]["depends_on"] == {"nearhit": {"condition": "service_healthy"}}
    assert SERVICES["prometheus"]["profiles"] == ["prometheus"]
    assert "healthcheck" in SERVICES["redis"] and stages()[-1].values("HEALTHCHECK")


def test_the_federated_profile_starts_commands_of_the_image_with_flower() -> None:
    for name, program in (("superlink", "flower-superlink"), ("supernode", "flower-supernode")):
        service = SERVICES[name]
        assert service["profiles"] == ["federated"]
        assert service["build"]["args"]["EXTRAS"].split() == ["providers", "federated"]
        assert service["entrypoint"] == [program]
        told = subprocess.run([tool(program), "--help"], capture_output=True, text=True).stdout
        for word in service["command"]:
            option = word.split("=")[0]
            assert f" {option} " in told or f"[{option}" in told, option
        assert service["environment"]["FLWR_TELEMETRY_ENABLED"] == "0"
        assert not [word for word in service["command"] if "insecure" in word]


def test_the_federations_files_are_those_that_its_keys_command_writes(tmp_path: Path) -> None:
    files = {Path(COMPOSE["secrets"][name]["file"]) for name in SERVICES["superlink"]["secrets"]}
    files |= {Path(COMPOSE["secrets"]["supernode_key"]["file"])}
    (command,) = re.findall(r"python -m federated\.keys (deploy/secrets/federated .*)", FEDERATED)
    assert keys([str(tmp_path), *command.split()[1:]]) == 0
    assert {tmp_path / file.name for file in files} <= set(tmp_path.iterdir())


def test_the_images_paths_and_port_are_what_compose_mounts_and_publishes() -> None:
    image, nearhit = stages()[-1], SERVICES["nearhit"]
    (port,) = image.values("EXPOSE")
    assert nearhit["ports"][0].endswith(f":{port}")
    targets = [volume.split(":")[1] for volume in nearhit["volumes"]]
    assert targets == [str(Path(image.env["NEARHIT_CONFIG"]).parent), image.values("WORKDIR")[-1]]
    scraped = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    assert scraped["scrape_configs"][0]["static_configs"] == [{"targets": [f"nearhit:{port}"]}]


def test_running_requests_get_their_time_before_the_kill() -> None:
    seconds = int(SERVICES["nearhit"]["stop_grace_period"].removesuffix("s"))
    assert seconds > load_settings(ROOT / "deploy" / "sidecar.yaml", {}).server.shutdown_timeout


def test_the_mounted_configuration_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARHIT_AUTH__KEYS", KEYS)
    settings = load_settings(ROOT / "deploy" / "config" / "nearhit.yaml", host="0.0.0.0")
    assert str(settings.documents) == "redis://redis:6379/0"
    assert str(settings.data_dir) == stages()[-1].values("WORKDIR")[-1]
    file = SERVICES["nearhit"]["environment"][f"{settings.upstreams[0].api_key_env}_FILE"]
    assert Path(file).name in SERVICES["nearhit"]["secrets"]


def test_the_mounted_configuration_serves_nobody_without_keys() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "config" / "nearhit.yaml").read_text())
    assert "auth" not in config
    assert ":?" in SERVICES["nearhit"]["environment"]["NEARHIT_AUTH__KEYS"]


def test_the_sidecars_configuration_is_accepted_and_bound_to_loopback() -> None:
    settings = load_settings(ROOT / "deploy" / "sidecar.yaml", {}, host="127.0.0.1")
    assert not settings.auth.keys and settings.documents == "sqlite"


def test_the_pages_pod_runs_the_image_as_it_is_built() -> None:
    (config, deployment) = examples("kind: Deployment")
    image = stages()[-1]
    pod = deployment["spec"]["template"]["spec"]
    (sidecar,) = [c for c in pod["initContainers"] if c["name"] == "nearhit"]
    uid, gid = map(int, image.values("USER")[-1].split(":"))
    assert sidecar["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": gid,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["fsGroup"] == gid
    assert sidecar["args"] == ["serve", "--host", "127.0.0.1", "--port", "8080"]
    assert sidecar["startupProbe"]["exec"]["command"] == ["nearhit-health", "/ready"]
    assert sidecar["livenessProbe"]["exec"]["command"] == ["nearhit-health"]
    mounts = {m["name"]: m["mountPath"] for m in sidecar["volumeMounts"]}
    assert mounts["data"] == image.values("WORKDIR")[-1] and mounts["tmp"] == "/tmp"
    assert mounts["config"] == str(Path(image.env["NEARHIT_CONFIG"]).parent)
    assert {v["name"] for v in pod["volumes"]} == set(mounts)
    shipped = yaml.safe_load((ROOT / "deploy" / "sidecar.yaml").read_text())
    assert yaml.safe_load(config["data"]["nearhit.yaml"]) == shipped


PASSWORD = 's3cret with a space, "quotes" and a \\'


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    """Redis started by the container's own script, its absolute paths moved below a folder."""
    port = free_port()
    (tmp_path / "password").write_text(PASSWORD)
    conf = (ROOT / "deploy" / "redis.conf").read_text()
    assert "dir /data\n" in conf
    moved = conf.replace("dir /data", f"dir {tmp_path}")
    (tmp_path / "redis.conf").write_text(f"{moved}\nport {port}\nbind 127.0.0.1\n")
    script = (ROOT / "deploy" / "redis.sh").read_text()
    for path, file in (("/run/secrets/redis_password", "password"), ("/etc/nearhit", ".")):
        assert path in script
        script = script.replace(path, str(tmp_path / file))
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while "NOAUTH" not in cli(port, "ping"):
            assert process.poll() is None and time.monotonic() < deadline
        yield port
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"s3cret" not in command
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def cli(port: int, *words: str, password: str | None = None) -> str:
    environ = {**os.environ} | ({"REDISCLI_AUTH": password} if password else {})
    command = [tool("redis-cli"), "-p", str(port), *words]
    answer = subprocess.run(command, env=environ, capture_output=True, text=True)
    return answer.stdout + answer.stderr


def test_redis_takes_the_password_of_the_file_and_keeps_what_it_holds(
    redis_port: int, tmp_path: Path
) -> None:
    settings = ("config", "get", "appendonly", "maxmemory-policy")
    answer = cli(redis_port, *settings, password=PASSWORD).split()
    assert dict(zip(answer[::2], answer[1::2], strict=True)) == {
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
    }
    assert (tmp_path / "appendonlydir").is_dir()


def test_redis_health_check_answers_only_when_redis_does(redis_port: int, tmp_path: Path) -> None:
    (kind, check) = SERVICES["redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    check = check.replace("$$", "$").replace("redis-cli", f"redis-cli -p {redis_port}")
    right = check.replace("/run/secrets/redis_password", str(tmp_path / "password"))
    assert subprocess.run(["sh", "-c", right], env={"PATH": os.environ["PATH"]}).returncode == 0
    wrong = check.replace("/run/secrets/redis_password", "/dev/null")
    assert subprocess.run(["sh", "-c", wrong], env={"PATH": os.environ["PATH"]}).returncode != 0
