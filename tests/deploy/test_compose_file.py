"""docker-compose.yaml keeps its promises: little is published, little is allowed, and secrets reach few."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ponte.embedded import programs

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
LONG_RUNNING = {name for name, service in SERVICES.items() if service["restart"] != "no"}

#: With the project's name: two stacks on a machine do not overwrite each other's image.
IMAGE = "${COMPOSE_PROJECT_NAME:-ponte}:${PONTE_TAG:-local}"

LAWS = {
    "it is restarted": lambda service: service["restart"] == "unless-stopped",
    "its health is checked": lambda service: bool(service["healthcheck"]["test"]),
}
LAWS_FOR_ALL = {
    "memory is limited": lambda service: bool(service["mem_limit"]),
    "processes are limited": lambda service: service["pids_limit"] > 0,
    "its log is rotated": lambda service: set(service["logging"]["options"]) == {"max-size", "max-file"},
    "its file system is read-only": lambda service: service["read_only"] is True,
    "it has no capabilities": lambda service: service["cap_drop"] == ["ALL"],
    "it gains no privileges": lambda service: service["security_opt"] == ["no-new-privileges:true"],
    "something reaps its children": lambda service: service["init"] is True,
    "its image has a tag": lambda service: service["image"] == IMAGE or re.fullmatch(r"[a-z]+:\d+", service["image"]),
}

#: Who gets a secret. Each is needed there; another service in a line is a decision, not an accident.
AIRFLOW = {"airflow-init", "api-server", "scheduler", "dag-processor", "ops"}
ADMINISTRATION = {"airflow-init", "ops"}
RUN_TASKS = {"scheduler", "worker"}
READERS = {
    "POSTGRES_PASSWORD": ADMINISTRATION | {"postgres"},
    "PONTE_OWNER_PASSWORD": ADMINISTRATION,
    "PONTE_ANALYST_PASSWORD": ADMINISTRATION,
    "PONTE_TRAINER_PASSWORD": ADMINISTRATION | RUN_TASKS,
    "PONTE_SCORER_PASSWORD": ADMINISTRATION | RUN_TASKS,
    "PONTE_PROMOTER_PASSWORD": ADMINISTRATION | RUN_TASKS,
    "PONTE_MONITOR_PASSWORD": ADMINISTRATION | RUN_TASKS,
    "PONTE_API_PASSWORD": ADMINISTRATION | {"api"},
    "PONTE_STREAM_PASSWORD": ADMINISTRATION | {"stream"},
    "PONTE_VIEWER_PASSWORD": ADMINISTRATION | {"api-server"},
    "AIRFLOW_ADMIN_PASSWORD": ADMINISTRATION,
    "AIRFLOW_DB_PASSWORD": AIRFLOW | {"worker"},
    "AIRFLOW_FERNET_KEY": AIRFLOW,
    "AIRFLOW_JWT_SECRET": {"api-server", "scheduler"},
    "AIRFLOW_API_SECRET_KEY": {"api-server", "scheduler", "worker"},
    "REDIS_PASSWORD": RUN_TASKS | {"redis"},
}


def test_what_runs_for_weeks_is_known() -> None:
    known = ["api", "api-server", "dag-processor", "postgres", "redis", "scheduler", "stream", "worker"]
    assert sorted(LONG_RUNNING) == known


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_what_runs_for_weeks_is_kept_running(name: str, law: str) -> None:
    assert LAWS[law](SERVICES[name])


@pytest.mark.parametrize("law", LAWS_FOR_ALL)
@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str, law: str) -> None:
    assert LAWS_FOR_ALL[law](SERVICES[name])


@pytest.mark.parametrize("name", SERVICES)
def test_only_ops_begins_as_root(name: str) -> None:
    assert (SERVICES[name].get("user") == "root") == (name == "ops") == ("cap_add" in SERVICES[name])
    assert not SERVICES[name].get("privileged", False)


def test_only_ui_and_api_are_published_and_on_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "api-server": ["${PONTE_UI_BIND:-127.0.0.1}:${PONTE_UI_PORT:-8080}:8080"],
        "api": ["${PONTE_API_BIND:-127.0.0.1}:${PONTE_API_PORT:-8088}:8088"],
    }


def test_what_answers_has_no_setting_of_airflow_and_changes_no_version() -> None:
    """It faces a network: whoever breaks in finds one role, and files that can be read only."""
    for name, own in (
        ("api", {"AIRFLOW_CONN_PONTE_API", "FORWARDED_ALLOW_IPS"}),
        ("stream", {"AIRFLOW_CONN_PONTE_STREAM"}),
    ):
        assert set(SERVICES[name]["environment"]) == {"PONTE_ARTIFACTS", *own}
        assert SERVICES[name]["volumes"] == ["artifacts:/var/lib/ponte/artifacts:ro"]


def test_whatever_a_proxy_may_stand_before_can_be_told_its_address() -> None:
    """Else all people have the proxy's address: they share the limit of a form, and cookies are not kept to TLS."""
    for name in ("api-server", "api"):
        assert SERVICES[name]["environment"]["FORWARDED_ALLOW_IPS"] == "${PONTE_PROXY_ADDRESS:-127.0.0.1}"


def test_database_and_broker_have_no_way_out() -> None:
    assert yaml.safe_load(TEXT)["networks"]["inside"]["internal"] is True
    assert {name for name, service in SERVICES.items() if service["networks"] == ["inside"]} == {
        "postgres", "redis", "dag-processor", "airflow-init",
    }  # fmt: skip


def test_the_override_for_developers_mounts_code_read_only() -> None:
    override = yaml.safe_load((ROOT / "docker-compose.dev.yaml").read_text(encoding="utf-8"))["services"]
    assert set(override) == {name for name, service in SERVICES.items() if service["image"] == IMAGE}
    for service in override.values():
        assert all(re.fullmatch(r"\./(\w+):/opt/ponte/\1:ro", volume) for volume in service["volumes"])


@pytest.mark.parametrize("secret", READERS)
def test_a_secret_reaches_only_who_needs_it(secret: str) -> None:
    readers = {name for name, service in SERVICES.items() if f"${{{secret}:?" in str(service)}
    assert readers == READERS[secret]


def test_secrets_are_required_generated_and_documented() -> None:
    required = set(re.findall(r"\$\{(\w+):\?run \./ponte-secrets first\}", TEXT))
    documented = set(re.findall(r"^(\w+)=$", EXAMPLE, flags=re.MULTILINE))
    assert required == documented == set(READERS)


def start(**passwords: str) -> "subprocess.CompletedProcess[str]":
    """Run docker/init.sh where none of its programs are: it comes as far as the first one, status 127."""
    command = ["/bin/sh", str(ROOT / "docker" / "init.sh")]
    return subprocess.run(command, env={"PATH": os.devnull} | passwords, check=False, capture_output=True, text=True)


CHECKED = sorted(name for name in READERS if name.endswith("_PASSWORD") and name != "REDIS_PASSWORD")


@pytest.mark.parametrize(
    ("name", "character"),
    [*((name, "@") for name in CHECKED), *(("PONTE_TRAINER_PASSWORD", character) for character in '/#%"$: \\\n')],
)
def test_a_password_that_breaks_a_url_is_refused_before_anything_begins(name: str, character: str) -> None:
    passwords = dict.fromkeys(CHECKED, "aZ09._~=-")
    assert start(**passwords).returncode == 127
    result = start(**passwords | {name: f"abc{character}def"})
    assert result.returncode == 1
    assert name in result.stderr
    assert "abc" not in result.stdout + result.stderr


def test_the_example_says_which_characters_a_password_may_have() -> None:
    [script] = re.findall(r"own='(\[[^]]*\])'", (ROOT / "ponte-secrets").read_text(encoding="utf-8"))
    [init] = re.findall(r"\*(\[![^]]*\])\*", (ROOT / "docker" / "init.sh").read_text(encoding="utf-8"))
    assert init == script.replace("[", "[!") == "[!A-Za-z0-9._~=-]"
    assert "letters, digits and . _ ~ = -" in EXAMPLE


def test_settings_have_the_documented_default() -> None:
    files = [ROOT / name for name in ("docker-compose.yaml", "docker-compose.analysts.yaml")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    # The default of one setting is made of another one.
    text = text.replace("localhost:${PONTE_UI_PORT:-8080}", "localhost:8080")
    documented = set(re.findall(r"^# (PONTE_\w+|COMPOSE_PROJECT_NAME)=(.*)$", EXAMPLE, flags=re.MULTILINE))
    assert ("COMPOSE_PROJECT_NAME", yaml.safe_load(TEXT)["name"]) in documented
    assert documented == set(re.findall(r"\$\{(\w+):-([^}]*)\}", text))


def test_no_password_stands_in_a_file() -> None:
    for path in [
        ROOT / ".env.example",
        ROOT / "Dockerfile",
        *ROOT.glob("docker-compose*.yaml"),
        *ROOT.glob("docker/*"),
    ]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?i)(password|secret|key)\w*\s*[=:]\s*[\"']?\w*[0-9a-f]{8}", text), path
        assert not re.search(r"://\w+:(?!\\?\s*\$\{)[^\s/]+@", text), path
    # A variable that holds a secret has no default: neither ${SECRET} nor ${SECRET:-value}.
    assert not re.search(r"\$\{?\w*(PASSWORD|SECRET|KEY)\w*(:-|-|\})", TEXT)


def test_nothing_reaches_the_image_by_accident() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    copied = re.findall(r"^COPY (?!--from)(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied)


@pytest.mark.usefixtures("postgres_programs")
def test_initdb_takes_what_the_compose_file_asks_for(tmp_path: Path) -> None:
    """The entrypoint of the public image hands the arguments to initdb; in its locale or none, that must work."""
    arguments = SERVICES["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split()
    account = programs.server_account()
    if account is not None:
        programs.give(tmp_path, account)
        programs.open_the_way(tmp_path, account)
        programs.make_readable(programs.binaries().parent, account)
    result = programs.run("initdb", [*arguments, "--no-sync", "-D", str(tmp_path / "data")], account, tmp_path / "data")
    assert result.status == 0, result.output


def test_both_servers_that_ponte_starts_have_room_for_the_locks_of_a_backup() -> None:
    from ponte.embedded.cluster import OPTIONS

    settings = dict(a.removeprefix("-c").split("=", 1) for a in SERVICES["postgres"]["command"] if a.startswith("-c"))
    for name in ("max_locks_per_transaction", "max_connections"):
        assert settings[name] == OPTIONS[name]
    assert int(settings["max_locks_per_transaction"]) * int(settings["max_connections"]) >= 100_000


def test_every_way_to_take_the_stack_down_names_all_profiles() -> None:
    """Without it what runs of a profile stays, and with it the networks and volumes that it holds."""
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *(ROOT / "plugins").rglob("*.py"), ROOT / "Makefile"]
    found = [line for page in pages for line in re.findall(r"docker compose[^`\n;&|]* down\b", page.read_text("utf-8"))]
    assert found
    assert set(found) == {'docker compose --profile "*" down'}
