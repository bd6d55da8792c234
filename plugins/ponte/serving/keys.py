"""Keys of the API: made, listed and revoked by the owner; taken, and counted, by the process that serves.

A key is 256 random bits, so its plain SHA-256 is all that has to be kept, and a look-up by it tells nobody anything.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import sqlalchemy as sa

from ponte.errors import PonteError
from ponte.storage.database import Database

#: Begins every key, so that it is found where it should not be.
PREFIX = "ponte_"
_RANDOM_BYTES = 32
#: Longer texts are no keys and are not looked at.
_LONGEST = 128

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
    """Make a key, as the owner; return its number and the key itself, which is kept nowhere."""
    token = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    row = {
        "name": name,
        "models": list(models),
        "sha256": _digest(token),
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


@dataclass(slots=True)
class Bucket:
    """What a caller may still ask for. Fills by itself up to `size`, and is emptied by asking."""

    size: float
    #: Seconds of some clock at which `left` was right.
    at: float
    left: float

    def take(self, cost: int, now: float) -> float:
        """Return 0 when the caller may go on, else the seconds until he may.

        What costs more than is left goes through when the bucket is full, and is paid for by waiting: else a request
        for more rows than a minute allows could never be made.
        """
        self.left = min(self.size, self.left + (now - self.at) * self.size / 60)
        self.at = now
        if self.left >= min(cost, self.size):
            self.left -= cost
            return 0.0
        return (min(cost, self.size) - self.left) * 60 / self.size


@dataclass(slots=True)
class KeyRing:
    """The valid keys, as this process last saw them, and how much each has asked for."""

    _by_digest: dict[bytes, Key] = field(default_factory=dict)
    _buckets: dict[UUID, Bucket] = field(default_factory=dict)

    def replace(self, keys: Iterable[Key]) -> None:
        """Take these keys and no others."""
        found = {key.sha256: key for key in keys}
        known = {key.key_id for key in found.values()}
        self._buckets = {key_id: bucket for key_id, bucket in list(self._buckets.items()) if key_id in known}
        self._by_digest = found

    def find(self, token: str, now: dt.datetime) -> Key | None:
        """Return the valid key of a token, None for no key, and for one that expired or was revoked."""
        if len(token) > _LONGEST:
            return None
        digest = _digest(token)
        key = self._by_digest.get(digest)
        if key is None or not hmac.compare_digest(key.sha256, digest):
            return None
        return key if key.expires_at is None or now < key.expires_at else None

    def take(self, key: Key, cost: int, now: float) -> float:
        """Return 0 when the key may ask for so many rows more, else the seconds until it may. now : time.monotonic."""
        bucket = self._buckets.get(key.key_id)
        if bucket is None:
            bucket = self._buckets[key.key_id] = Bucket(key.per_minute, now, key.per_minute)
        return bucket.take(cost, now)


def _keys(connection: sa.Connection, query: sa.TextClause) -> list[Key]:
    rows = connection.execute(query).mappings()
    return [Key(**{**row, "models": tuple(row["models"]), "sha256": bytes(row["sha256"])}) for row in rows]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
