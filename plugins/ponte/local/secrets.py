"""Passwords and keys of the local stack: generated once, kept in one file that only its owner can read."""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets as generator
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ponte.errors import StackError
from ponte.local.settings import Settings
from ponte.schema import roles
from ponte.storage.artifacts import sync_folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Secrets:
    """Every secret of one local stack. None is shown by repr(), so that none can reach a log by accident."""

    #: Superuser `postgres` of the embedded server.
    postgres_password: str = field(repr=False)
    #: Role `airflow`, owner of Airflow's metadata database.
    airflow_password: str = field(repr=False)
    #: Role `ponte_owner`, owner of the database with models and predictions.
    ponte_password: str = field(repr=False)
    #: The other roles of that database, see `ponte.schema.roles`.
    trainer_password: str = field(repr=False)
    scorer_password: str = field(repr=False)
    promoter_password: str = field(repr=False)
    monitor_password: str = field(repr=False)
    api_password: str = field(repr=False)
    stream_password: str = field(repr=False)
    viewer_password: str = field(repr=False)
    analyst_password: str = field(repr=False)
    #: Encrypts connections and variables in Airflow's database.
    fernet_key: str = field(repr=False)
    #: Signs the tokens between Airflow's components; Airflow wants at least 64 bytes.
    jwt_secret: str = field(repr=False)
    #: Signs the sessions of the UI and the requests for task logs.
    api_secret_key: str = field(repr=False)
    #: Password of the user `admin` in the Airflow UI.
    admin_password: str = field(repr=False)

    @property
    def database_passwords(self) -> dict[str, str]:
        """Role of the embedded server -> password, without the superuser."""
        return {
            "airflow": self.airflow_password,
            roles.OWNER: self.ponte_password,
            roles.TRAINER: self.trainer_password,
            roles.SCORER: self.scorer_password,
            roles.PROMOTER: self.promoter_password,
            roles.MONITOR: self.monitor_password,
            roles.API: self.api_password,
            roles.STREAM: self.stream_password,
            roles.VIEWER: self.viewer_password,
            roles.ANALYST: self.analyst_password,
        }


def generate() -> Secrets:
    """Return new random secrets, made of letters, digits, `-`, `_` and `=` only.

    No `$`, `%` or `/`: Airflow expands `$NAME` in settings, ConfigParser expands `%`, and URLs would need quoting.
    """
    return Secrets(
        postgres_password=generator.token_hex(24),
        airflow_password=generator.token_hex(24),
        ponte_password=generator.token_hex(24),
        trainer_password=generator.token_hex(24),
        scorer_password=generator.token_hex(24),
        promoter_password=generator.token_hex(24),
        monitor_password=generator.token_hex(24),
        api_password=generator.token_hex(24),
        stream_password=generator.token_hex(24),
        viewer_password=generator.token_hex(24),
        analyst_password=generator.token_hex(24),
        fernet_key=base64.urlsafe_b64encode(generator.token_bytes(32)).decode(),
        jwt_secret=generator.token_hex(64),
        api_secret_key=generator.token_hex(32),
        # Short enough to be typed: 16 characters of base64, 96 random bits.
        admin_password=generator.token_urlsafe(12),
    )


def load_or_create(path: Path) -> Secrets:
    """Return the secrets in the file `path`, which is written first if it does not exist.

    Raises StackError if others may read the file, or if it is damaged; it is never overwritten.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        secrets = generate()
        write_private_json(path, asdict(secrets))
        return secrets
    if mode & 0o077:
        raise StackError(
            f"{path} holds passwords, but its mode is {mode & 0o777:04o}: other users of this machine can read it. "
            f"Expected mode 0600.\nFix it with:  chmod 600 '{path}'"
        )
    return _parse(path)


def existing(settings: Settings) -> Secrets:
    """Return the secrets of a stack; raises StackError when there are none yet, because only `up` may make them."""
    if not settings.secrets_file.exists():
        raise StackError(f"There is no {settings.secrets_file} yet. Start the stack first:  ./ponte up")
    return load_or_create(settings.secrets_file)


def _parse(path: Path) -> Secrets:
    """Return the secrets in an existing file, or raise StackError that says what is wrong with it."""
    advice = (
        "Restore the file from a backup; without it the existing database cannot be opened. "
        "To start afresh and lose all local data: make clean."
    )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StackError(f"Cannot read the secrets in {path}: {error}. {advice}") from error
    expected = {item.name for item in fields(Secrets)}
    found = content if isinstance(content, dict) else {}
    found = {**_derived(found.get("ponte_password")), **found}
    missing = sorted(name for name in expected if not isinstance(found.get(name), str) or not found[name])
    if missing:
        raise StackError(f"{path} lacks: {', '.join(missing)} (expected a non-empty text for each). {advice}")
    return Secrets(**{name: found[name] for name in expected})


def _derived(owner_password: object) -> dict[str, str]:
    """Return the passwords that a file of an earlier release lacks; always the same, so nothing has to be written."""
    if not isinstance(owner_password, str):
        return {}
    roles_since = ("trainer", "scorer", "promoter", "monitor", "api", "stream", "viewer", "analyst")
    names = tuple(f"{role}_password" for role in roles_since)
    key = owner_password.encode()
    return {name: hmac.digest(key, name.encode(), "sha256").hex()[:48] for name in names}


def write_private_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path` with mode 0600, all of it or nothing, whatever interrupts it.

    Law: whenever `path` exists, it is complete. Ensured by a temporary file in the same folder, fsync and rename.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp creates with mode 0600, so the content is never readable for others, not even for a moment.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
