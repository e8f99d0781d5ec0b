"""compose.yaml keeps to the Compose specification, and to rules of its own: no default secret, no open port."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.docker.build_files import ROOT, final

FOLDER = ROOT / "docker"
TEXT = (FOLDER / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
VARIABLE = re.compile(r"\$\{(\w+)(:?[?-])?([^}]*)\}")
OURS = {"api", "worker", "first-token"}
STORES = set(SERVICES) - OURS

each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def _example() -> dict[str, str]:
    lines = [line for line in (FOLDER / "example.env").read_text().splitlines() if line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_the_file_fits_the_compose_specification() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [str(checker), "--builtin-schema", "vendor.compose-spec", str(FOLDER / "compose.yaml")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@each_service
def test_a_service_names_a_versioned_image(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert image
    assert tag not in ("", "latest")


@each_service
def test_a_service_that_stays_up_has_a_health_check(name: str) -> None:
    service = SERVICES[name]
    check = service.get("healthcheck", {})
    if "profiles" in service:
        assert check == {"disable": True}
    else:
        # The API has its image's own check.
        assert "test" in check or name == "api"


@each_service
def test_what_a_service_waits_for_exists_and_can_become_true(name: str) -> None:
    for target, rule in SERVICES[name].get("depends_on", {}).items():
        assert target in SERVICES
        assert rule["condition"] == "service_healthy"
        assert "profiles" not in SERVICES[target]


@each_service
def test_a_service_publishes_on_loopback_or_not_at_all(name: str) -> None:
    ports = SERVICES[name].get("ports", [])
    assert all(port.startswith("${PUBLISH:-127.0.0.1:") for port in ports)
    assert not ports or name == "api"


@each_service
def test_every_named_volume_and_network_is_declared(name: str) -> None:
    sources = {volume.partition(":")[0] for volume in SERVICES[name]["volumes"] if not volume.startswith("/")}
    assert sources <= set(COMPOSE["volumes"])
    assert set(SERVICES[name]["networks"]) <= set(COMPOSE["networks"])


def test_every_variable_is_explained_in_the_example() -> None:
    assert {match[1] for match in VARIABLE.finditer(TEXT)} == set(_example())
    assert _example()["PUBLISH"].startswith("127.0.0.1:")


def test_no_secret_has_a_default() -> None:
    secrets = {name for name, value in _example().items() if not value}
    assert secrets == {"VALKEY_PASSWORD", "POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"}
    uses = [match for match in VARIABLE.finditer(TEXT) if match[1] in secrets]
    assert {(match[1], match[2]) for match in uses} == {(name, ":?") for name in secrets}


def test_every_password_in_the_file_is_a_variable() -> None:
    literal = r"(?i)(?:password|secret\w*|access_key\w*|--requirepass|_auth)['\"]?(?::\s+|\s+)(?!\$\{)\S+"
    assert not re.findall(literal, re.sub(r"#.*", "", TEXT.replace("--requirepass\n      - ", "--requirepass ")))


def test_the_api_starts_no_embedded_part_and_each_command_has_one_service() -> None:
    assert SERVICES["api"]["command"] == ["serve", "--workers", "0"]
    assert SERVICES["worker"]["command"] == ["worker"]
    assert SERVICES["first-token"]["command"] == ["tokens", "create", "--name", "admin", "--scope", "admin"]


def test_the_stores_are_moved_out_by_urls_that_name_their_services() -> None:
    for name in OURS:
        environment = SERVICES[name]["environment"]
        assert re.search(r"@valkey:6379/0$", environment["REDIS_URL"])
        assert re.search(r"@postgres:5432/stockpot$", environment["DATABASE_URL"])
        assert environment["BLOB_URL"].startswith("s3://")
        assert environment["AWS_ENDPOINT"] == "http://storage:8333"


def test_the_stores_have_no_way_out_and_ours_reach_them() -> None:
    assert COMPOSE["networks"]["stores"]["internal"] is True
    assert all(SERVICES[name]["networks"] == ["stores"] for name in STORES)
    assert all("stores" in SERVICES[name]["networks"] for name in OURS)


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_have_a_read_only_root_and_no_capabilities(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {volume.rpartition(":")[2] for volume in service["volumes"]} == {"/data"}
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]


def test_a_health_script_that_a_service_runs_is_in_the_image() -> None:
    script = Path(SERVICES["worker"]["healthcheck"]["test"][-1])
    copied = (FOLDER / "Dockerfile").read_text()
    assert f"docker/{script.name}" in copied
    assert str(script.parent) in copied


def test_the_service_accepts_the_settings_of_its_containers() -> None:
    image = dict(pair.split("=", 1) for one in final("ENV") for pair in one.rest.split())
    for name in OURS:
        given = {**image, **SERVICES[name]["environment"]}
        settings = Settings.from_environment({key: VARIABLE.sub("secret", value) for key, value in given.items()})
        assert settings.data == Path("/data")
        assert settings.redis_url == "redis://:secret@valkey:6379/0"
        assert settings.database_url == "postgresql+psycopg://stockpot:secret@postgres:5432/stockpot"
        assert settings.blob_url == "s3://stockpot/blobs"
