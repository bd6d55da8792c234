"""What the deployment is set to: a setting that nobody reads, or a secret in the wrong place, raises no error."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ANALYSTS = yaml.safe_load((ROOT / "docker-compose.analysts.yaml").read_text(encoding="utf-8"))
#: Instructions of the Dockerfile, each in one line and without comments.
DOCKERFILE = re.sub(
    r"^#.*\n|\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE
).splitlines()
ENVIRONMENT = [
    (service, name, value)
    for service, settings in SERVICES.items()
    for name, value in settings.get("environment", {}).items()
]

# ---------------------------------------------------------------- names that somebody reads

#: Airflow reads it (scheduler_job_runner.py), but does not describe it.
UNDESCRIBED = ["scheduler.num_stuck_in_queued_retries"]

DESCRIPTIONS = """
import json
from airflow.configuration import conf
print(json.dumps({section: list(about["options"]) for section, about in conf.configuration_description.items()}))
"""


@pytest.mark.usefixtures("airflow")
def test_airflow_knows_every_option(tmp_path: Path) -> None:
    """It ignores one that is misspelled. In a process of its own, which makes its home in a folder of the test."""
    files = [ROOT / "Dockerfile", *ROOT.glob("docker-compose*.yaml"), *ROOT.glob("docker/*")]
    text = "".join(path.read_text(encoding="utf-8") for path in files if path.is_file())
    used = set(re.findall(r"\bAIRFLOW__([A-Z0-9_]+?)__([A-Z0-9_]+)", text))
    assert len(used) > 20

    own = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PONTE"))}
    own["AIRFLOW_HOME"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", DESCRIPTIONS], env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    options = json.loads(done.stdout.splitlines()[-1])

    names = [(section.lower(), option.lower()) for section, option in used]
    unknown = [f"{section}.{option}" for section, option in names if option not in options.get(section, [])]
    assert sorted(unknown) == UNDESCRIBED


# ---------------------------------------------------------------- secrets

#: Names that sound like a secret and are none.
HARMLESS = {"AIRFLOW__CORE__AUTH_MANAGER"}
#: Where a secret is known under another name than in .env.
VARIABLES = {
    "AIRFLOW__CORE__FERNET_KEY": "AIRFLOW_FERNET_KEY",
    "AIRFLOW__API__SECRET_KEY": "AIRFLOW_API_SECRET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET": "AIRFLOW_JWT_SECRET",
    "REDISCLI_AUTH": "REDIS_PASSWORD",
}
#: What stands between other text, by the user who logs in with it.
PASSWORDS = {
    "airflow": "AIRFLOW_DB_PASSWORD",
    "postgres": "POSTGRES_PASSWORD",
    "": "REDIS_PASSWORD",
    "ponte_trainer": "PONTE_TRAINER_PASSWORD",
    "ponte_scorer": "PONTE_SCORER_PASSWORD",
    "ponte_promoter": "PONTE_PROMOTER_PASSWORD",
    "ponte_monitor": "PONTE_MONITOR_PASSWORD",
    "ponte_api": "PONTE_API_PASSWORD",
    "ponte_stream": "PONTE_STREAM_PASSWORD",
    "ponte_viewer": "PONTE_VIEWER_PASSWORD",
}


def required(variable: str) -> str:
    """Return how the compose file asks for a secret: without it, compose refuses to start."""
    return f"${{{variable}:?run ./ponte-secrets first}}"


def test_a_secret_is_that_of_its_name_and_has_no_value_in_the_file() -> None:
    secret = re.compile("PASSWORD|SECRET|KEY|AUTH")
    found = {entry for entry in ENVIRONMENT if secret.search(entry[1]) and entry[1] not in HARMLESS}
    assert len(found) > 20
    assert found == {(service, name, required(VARIABLES.get(name, name))) for service, name, _ in found}


def test_a_url_or_connection_has_the_password_of_its_user() -> None:
    found = set()
    for service, name, value in ENVIRONMENT:
        for user, password in re.findall(r"://([^:/@]*):(.*)@", str(value)):
            found.add((service, name, user, password))
        if name.startswith("AIRFLOW_CONN_"):
            connection = json.loads(value)
            assert name == f"AIRFLOW_CONN_{connection['login'].upper()}"
            found.add((service, name, connection["login"], connection["password"]))
    assert {user for _, _, user, _ in found} == set(PASSWORDS)
    assert found == {(service, name, user, required(PASSWORDS[user])) for service, name, user, _ in found}


@pytest.mark.parametrize("name", SERVICES)
def test_a_secret_comes_by_the_environment_and_by_no_other_way(name: str) -> None:
    """Arguments can be seen in the list of processes, build arguments in the image."""
    assert ":?" not in str({key: value for key, value in SERVICES[name].items() if key != "environment"})
    assert set(SERVICES[name].get("build", {}).get("args", {})) <= {"PONTE_CODE_REVISION"}


# ---------------------------------------------------------------- services

#: What is set for services at all. `env_file` would hand on every secret, `pid: host` show every process: one more key
#: is a decision.
KEYS = {
    "build", "cap_add", "cap_drop", "command", "depends_on", "dns_search", "entrypoint", "environment", "healthcheck",
    "image", "init", "logging", "mem_limit", "networks", "pids_limit", "ports", "profiles", "read_only", "restart",
    "scale", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "user", "volumes",
}  # fmt: skip

LOGS = "logs:/var/lib/ponte/logs"
ARTIFACTS = "artifacts:/var/lib/ponte/artifacts"
#: The only folder of the machine is that of the backups; the socket of Docker is nowhere: it is root on the machine.
MOUNTS = {
    "postgres": ["postgres:/var/lib/postgresql"],
    "airflow-init": [LOGS],
    "api-server": [f"{ARTIFACTS}:ro", LOGS],
    "scheduler": [ARTIFACTS, LOGS],
    "dag-processor": [LOGS],
    "worker": [ARTIFACTS, LOGS],
    "redis": [],
    "api": [f"{ARTIFACTS}:ro"],
    "stream": [f"{ARTIFACTS}:ro"],
    "ops": [ARTIFACTS, "${PONTE_BACKUPS:-./backups}:/backups"],
}

READY = {"condition": "service_healthy"}
AFTER_INIT = {"airflow-init": {"condition": "service_completed_successfully"}}
DEPENDS_ON = {
    "postgres": {},
    "airflow-init": {"postgres": READY},
    "api-server": AFTER_INIT,
    "dag-processor": AFTER_INIT,
    "scheduler": AFTER_INIT | {"api-server": READY, "redis": READY | {"required": False}},
    "worker": AFTER_INIT | {"api-server": READY, "redis": READY},
    "redis": {},
    "api": AFTER_INIT,
    "stream": AFTER_INIT,
    "ops": {"postgres": READY},
}

HEALTHY = ["CMD", "python", "-I", "docker/healthy.py"]
HEALTH = {
    "postgres": ["CMD", "pg_isready", "--quiet", "--host=127.0.0.1", "--username=postgres"],
    "redis": ["CMD-SHELL", "redis-cli ping | grep -q PONG"],
    "api-server": [*HEALTHY, ":8080/execution/health", ":8080/api/v2/monitor/health"],
    "scheduler": [*HEALTHY, ":8974/health"],
    "dag-processor": [*HEALTHY, "DagProcessorJob"],
    "worker": [*HEALTHY, "celery"],
    "api": [*HEALTHY, ":8088/health/live"],
    "stream": [*HEALTHY, "stream"],
}

#: Of some services, what nothing but a bad day would show the lack of.
SETTINGS = {
    ("api-server", "command"): ["airflow", "api-server", "--proxy-headers"],
    ("airflow-init", "command"): ["sh", "docker/init.sh"],
    ("scheduler", "command"): ["sh", "docker/scheduler.sh"],
    ("scheduler", "dns_search"): ".",
    ("ops", "entrypoint"): ["sh", "docker/ops.sh"],
    ("ops", "cap_add"): ["CHOWN", "SETGID", "SETUID"],
    ("postgres", "stop_grace_period"): "1m",
    ("scheduler", "stop_grace_period"): "2m",
    ("worker", "stop_grace_period"): "2m",
    ("postgres", "shm_size"): "256m",
    ("postgres", "tmpfs"): ["/tmp", "/var/run/postgresql"],  # noqa: S108 - of the container
    ("redis", "tmpfs"): ["/tmp", "/data"],  # noqa: S108
    ("redis", "profiles"): ["celery"],
    ("worker", "profiles"): ["celery"],
    ("ops", "profiles"): ["tools"],
    ("api", "profiles"): ["live"],
    ("api", "command"): ["ponte", "serve", "--host", "0.0.0.0"],  # noqa: S104 - of the container
    ("stream", "profiles"): ["live"],
    ("stream", "command"): ["ponte", "work"],
    ("api", "stop_grace_period"): "30s",
    ("stream", "stop_grace_period"): "30s",
}


def test_no_other_key_is_used() -> None:
    assert {key for service in SERVICES.values() for key in service} == KEYS


def test_mounts() -> None:
    assert {name: service.get("volumes", []) for name, service in SERVICES.items()} == MOUNTS
    assert COMPOSE["volumes"] == {"postgres": None, "artifacts": None, "logs": None}, "a driver could bind a folder too"


def test_who_waits_for_whom() -> None:
    assert {name: service.get("depends_on", {}) for name, service in SERVICES.items()} == DEPENDS_ON


@pytest.mark.parametrize("name", HEALTH)
def test_health_is_asked_where_it_shows(name: str) -> None:
    assert SERVICES[name]["healthcheck"] == {
        "test": HEALTH[name], "interval": "10s", "timeout": "10s", "retries": 3, "start_period": "10m",
    }  # fmt: skip


def test_nobody_else_runs_for_weeks_or_is_asked() -> None:
    assert set(HEALTH) == {name for name, service in SERVICES.items() if service["restart"] != "no"}
    assert set(HEALTH) == {name for name, service in SERVICES.items() if "healthcheck" in service}


@pytest.mark.parametrize(("service", "key"), SETTINGS)
def test_settings_of_a_service(service: str, key: str) -> None:
    assert SERVICES[service].get(key) == SETTINGS[service, key]


def test_libraries_are_preloaded_where_tasks_run() -> None:
    found = {(service, value) for service, name, value in ENVIRONMENT if name == "PONTE_PRELOAD"}
    assert found == {("scheduler", "1"), ("worker", "1")}


def test_the_override_for_analysts_opens_the_database_to_this_machine_only() -> None:
    """A port of a container without a network to the outside is published in vain."""
    assert ANALYSTS == {
        "services": {
            "postgres": {
                "ports": ["${PONTE_DB_BIND:-127.0.0.1}:${PONTE_DB_PORT:-5432}:5432"],
                "networks": ["inside", "outside"],
            }
        }
    }


# ---------------------------------------------------------------- the image, and what git leaves out


def test_the_image_runs_as_a_user_who_owns_no_program() -> None:
    assert [line for line in DOCKERFILE if line.startswith("USER")] == ["USER 50000:50000"]
    last = max(number for number, line in enumerate(DOCKERFILE) if line.startswith("FROM"))
    assert DOCKERFILE.index("USER 50000:50000") > last


def test_everything_that_is_installed_is_checked_and_nothing_else_is_fetched() -> None:
    installs = re.findall(r"\bpip [^&|;]*\binstall\b[^&|;]*", " ".join(DOCKERFILE))
    assert len(installs) == 1
    assert {"--require-hashes", "--no-build-isolation", "--no-deps"} <= set(installs[0].split())


def test_no_secret_is_built_in() -> None:
    """Whoever has the image can read both."""
    lines = [line for line in DOCKERFILE if re.match(r"\s*(ARG|ENV)\s", line, flags=re.IGNORECASE)]
    assert len(lines) == 3
    assert not [line for line in lines if re.search("PASSWORD|SECRET|KEY|AUTH|TOKEN|CONN|://\\S+@", line)]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not needed to run Ponte")
@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        (".env", True),
        (".env.old", True),
        ("backups/today", True),
        ("airflow.dump", True),
        (".env.example", False),
    ],
)
def test_git_leaves_out_what_is_secret(tmp_path: Path, path: str, ignored: bool) -> None:
    """In a new repository without settings: what else a developer ignores does not count."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    own |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "XDG_CONFIG_HOME": str(tmp_path)}
    shutil.copy(ROOT / ".gitignore", tmp_path)
    # Without a template: it may bring rules.
    subprocess.run(["git", "init", "--quiet", "--template="], cwd=tmp_path, env=own, check=True, capture_output=True)
    done = subprocess.run(["git", "check-ignore", path], cwd=tmp_path, env=own, check=False, capture_output=True)
    assert done.returncode == (0 if ignored else 1), done.stderr


def test_the_build_of_the_image_ends_when_a_folder_needs_what_the_lock_lacks() -> None:
    [asked] = [number for number, line in enumerate(DOCKERFILE) if "ponte lock --check" in line]
    for copied in ("COPY include /opt/ponte/include", "COPY requirements.in requirements.txt /opt/ponte/"):
        assert copied in DOCKERFILE[:asked], "it compares these"
