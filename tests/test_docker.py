"""What Dockerfile and docker-compose.yml name exists: commands, paths, settings, ports. (No container is built here.)"""

import fnmatch
import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicomweb.cli import commands
from dicomweb.settings import SETTINGS, SettingError, Settings

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service.get("image") == "dicomweb"}
VARIABLES = {row.variable for row in SETTINGS}


def instructions(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in joined.splitlines() if line.startswith(f"{name} ")]


def image_environment() -> dict[str, str]:
    return dict(part.split("=", 1) for line in instructions("ENV") for part in shlex.split(line))


def test_the_services_of_the_application_are_there() -> None:
    assert set(OURS) == {"migrate", "web", "worker", "watcher", "dimse"}
    assert set(COMPOSE["services"]) - set(OURS) == {"postgres", "redis"}


@pytest.mark.parametrize("service", sorted(OURS))
def test_a_service_runs_a_command_that_exists(service: str) -> None:
    named = [OURS[service]["command"]]
    if "healthcheck" in OURS[service]:
        named.append(OURS[service]["healthcheck"]["test"][1:])
    for command in named:
        match command:
            case ["dicomweb", name, *_]:
                assert name in commands.commands
            case ["python", "-m", module, ini]:
                assert importlib.util.find_spec(f"{module}.__main__")
                assert (ROOT / ini).is_file()
            case ["pserve", ini]:
                assert (ROOT / ini).is_file()
            case _:
                pytest.fail(f"{service} runs {command}, which this test does not know")


@pytest.mark.parametrize("service", sorted(set(OURS) - {"migrate"}))
def test_a_health_check_asks_for_the_program_that_the_service_runs(service: str) -> None:
    asked = OURS[service]["healthcheck"]["test"]
    assert asked == ["CMD", "dicomweb", "health", {"worker": "workers"}.get(service, service)]


def test_every_variable_is_a_setting() -> None:
    used = {name for service in OURS.values() for name in service["environment"]} | set(image_environment())
    assert {name for name in used if name.startswith(("DICOMWEB_", "SENTRY_"))} <= VARIABLES


def test_the_password_comes_from_the_environment_and_is_refused_when_empty() -> None:
    for service in OURS.values():
        assert re.fullmatch(r"\$\{DICOMWEB_PASSWORD:\?.+\}", service["environment"]["DICOMWEB_PASSWORD"])


def test_five_workers_of_one_process_each() -> None:
    assert OURS["worker"]["deploy"]["replicas"] == 5
    assert OURS["worker"]["environment"]["DICOMWEB_WORKERS"] == 1


def test_the_database_and_the_broker_of_the_application_are_services() -> None:
    for service in OURS.values():
        assert service["environment"]["DICOMWEB_DATABASE_URL"].split("@")[1] == "postgres/dicomweb"
        assert service["environment"]["DICOMWEB_BROKER_URL"] == "redis://redis:6379/0"


def test_the_broker_keeps_its_queue_on_the_disk() -> None:
    command = COMPOSE["services"]["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"


def test_no_container_of_the_application_has_more_rights_than_it_needs() -> None:
    for service in OURS.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert instructions("USER") == ["dicomweb"]


def test_what_is_written_goes_to_volumes() -> None:
    environment = image_environment()
    for service in OURS.values():
        mounted = {volume.rsplit(":ro", 1)[0].rsplit(":", 1)[1] for volume in service["volumes"]}
        assert mounted == {environment["DICOMWEB_VAR"], environment["DICOMWEB_WATCH"]}
        assert service["tmpfs"] == ["/tmp"]
    named = {volume.split(":")[0] for service in COMPOSE["services"].values() for volume in service["volumes"]}
    assert set(COMPOSE["volumes"]) == {name for name in named if re.fullmatch(r"[a-z]+", name)}


def test_the_port_is_the_one_of_the_settings_and_open_to_this_machine_only() -> None:
    (port,) = [row.default for row in SETTINGS if row.name == "web.port"]
    assert instructions("EXPOSE") == [port]
    assert OURS["web"]["ports"] == [f"127.0.0.1:${{DICOMWEB_PORT:-{port}}}:{port}"]
    assert [name for name, service in COMPOSE["services"].items() if "ports" in service] == ["web", "dimse"]


def test_the_listener_is_there_for_who_asks_for_it_and_open_to_this_machine_only() -> None:
    listener = OURS["dimse"]
    assert [name for name, service in COMPOSE["services"].items() if "profiles" in service] == ["dimse"]
    assert listener["profiles"] == ["dimse"]
    port = listener["environment"]["DICOMWEB_DIMSE_PORT"]
    assert listener["ports"] == [f"${{DIMSE_PUBLISH:-127.0.0.1:{port}}}:{port}"]
    # A host that others reach is refused without the names of those who may call.
    values = {row.name: listener["environment"][row.variable] for row in SETTINGS if row.variable.startswith("DICOMWEB_DIMSE_") and row.variable in listener["environment"]}
    with pytest.raises(SettingError, match=r"dimse\.callers"):
        Settings({name: str(value).replace("${DICOMWEB_DIMSE_AET:-DICOMWEB}", "DICOMWEB").replace("${DICOMWEB_DIMSE_CALLERS:-}", "") for name, value in values.items()}, environ={})


def test_database_and_broker_stand_on_a_network_that_leads_nowhere() -> None:
    assert COMPOSE["networks"]["inside"]["internal"] is True
    for service in COMPOSE["services"].values():
        assert service["networks"] == (["inside", "outside"] if "ports" in service else ["inside"])


def test_every_path_that_is_copied_exists_and_is_not_ignored() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [path for line in instructions("COPY") if "--from" not in line for path in line.split()[:-1]]
    assert {"dicomweb", "workers", "watcher", "dimse", "alembic", "development.ini"} <= set(copied)
    for path in copied:
        assert (ROOT / path).exists(), path
        assert any(fnmatch.fnmatch(path, pattern) or path.startswith(f"{pattern}/") for pattern in allowed), path


def test_every_program_is_installed_and_compiled() -> None:
    programs = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert {"dicomweb", "workers", "watcher", "dimse"} == programs
    [made, compiled] = [re.search(command, DOCKERFILE) for command in (r"RUN mkdir ([a-z ]+?) \\\n", r"compileall -q ([a-z ]+)")]
    assert made is not None
    assert compiled is not None
    assert set(made[1].split()) == set(compiled[1].split()) == programs


def test_the_image_has_a_python_that_the_packages_support() -> None:
    supported = (3, 11)
    versions = re.findall(r"FROM python:(\d+)\.(\d+)-", DOCKERFILE)
    assert len(versions) == 2
    assert all(tuple(map(int, version)) >= supported for version in versions)
