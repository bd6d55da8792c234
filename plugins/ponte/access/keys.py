"""Keys of the API: made, listed and revoked by the owner, and read by the process that serves.

A key is 256 random bits, so its plain SHA-256 is all that has to be kept, and a look-up by it tells nobody anything.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from ponte.errors import PonteError
from ponte.storage.database import Database

#: Begins every key, so that it is found where it should not be.
PREFIX = "ponte_"
LONGEST_NAME = 100
_RANDOM_BYTES = 32

_CREATE = sa.text("""INSERT INTO ponte.api_key (name, models, sha256, per_minute, expires_at, created_by)
    VALUES (:name, :models, :sha256, :per_minute, :expires_at, :created_by)
    RETURNING key_id""")
_LIST = sa.text("""SELECT k.key_id, k.name, k.models, k.sha256, k.per_minute, k.created_at, k.expires_at, k.created_by,
        r.at AS revoked_at
    FROM ponte.api_key k LEFT JOIN ponte.api_key_revoked r USING (key_id)
    ORDER BY k.created_at, k.key_id""")
_VALID = sa.text("""SELECT k.key_id, k.name, k.models, k.sha256, k.per_minute, k.created_at, k.expires_at, k.created_by,
        NULL AS revoked_at
    FROM ponte.api_key k
    WHERE NOT EXISTS (SELECT FROM ponte.api_key_revoked r WHERE r.key_id = k.key_id)
        AND (k.expires_at IS NULL OR k.expires_at > now())""")
_REVOKE = sa.text("""INSERT INTO ponte.api_key_revoked (key_id, revoked_by)
    SELECT key_id, :revoked_by FROM ponte.api_key WHERE key_id = :key_id
    ON CONFLICT DO NOTHING""")
_NAME = sa.text("SELECT name FROM ponte.api_key WHERE key_id = :key_id")


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A row of `ponte.api_key`."""

    key_id: UUID
    name: str
    #: Models that it may ask; () for all.
    models: tuple[str, ...]
    sha256: bytes
    #: Rows within a minute, of each process.
    per_minute: int
    created_at: dt.datetime
    expires_at: dt.datetime | None
    created_by: str
    revoked_at: dt.datetime | None = None

    def may_ask(self, model: str) -> bool:
        """Tell whether the key is one for the model."""
        return not self.models or model in self.models

    def state(self, now: dt.datetime) -> str:
        """Return `valid`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


def create_key(
    db: Database,
    name: str,
    *,
    models: Sequence[str] = (),
    per_minute: int = 6_000,
    expires_at: dt.datetime | None = None,
    created_by: str,
) -> tuple[UUID, str]:
    """Make a key, as the owner; return its number and the key itself, which is kept nowhere.

    Raises PonteError when the name is none.
    """
    if not 0 < len(name.strip()) <= LONGEST_NAME or not name.isprintable():
        got, expected = repr(name[:LONGEST_NAME]), f"1 to {LONGEST_NAME} characters that can be printed"
        raise PonteError("no name for a key", got=got, expected=expected, fix="say whose key it is, or what for")
    token = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    row = {
        "name": name,
        "models": list(models),
        "sha256": digest_of(token),
        "per_minute": per_minute,
        "expires_at": expires_at,
        "created_by": created_by,
    }
    with db.begin() as connection:
        return connection.execute(_CREATE, row).scalar_one(), token


def list_keys(db: Database) -> list[Key]:
    """Return every key that was ever made, the oldest first."""
    with db.begin() as connection:
        return _keys(connection, _LIST)


def valid_keys(connection: sa.Connection) -> list[Key]:
    """Return the keys that are neither revoked nor expired."""
    return _keys(connection, _VALID)


def revoke_key(db: Database, key_id: UUID, *, revoked_by: str) -> str:
    """Revoke a key, as the owner; return its name. Raises PonteError when there is none. Twice is once."""
    with db.begin() as connection:
        name = connection.execute(_NAME, {"key_id": key_id}).scalar_one_or_none()
        if name is None:
            raise PonteError("no such key", got=str(key_id), fix="./ponte keys list shows the numbers of all keys")
        connection.execute(_REVOKE, {"key_id": key_id, "revoked_by": revoked_by})
    return str(name)


def _keys(connection: sa.Connection, query: sa.TextClause) -> list[Key]:
    rows = connection.execute(query).mappings()
    return [Key(**{**row, "models": tuple(row["models"]), "sha256": bytes(row["sha256"])}) for row in rows]


def digest_of(token: str) -> bytes:
    """Return what is kept of a key."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
