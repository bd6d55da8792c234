"""The keys that a process takes, and how much each caller has asked for."""

from __future__ import annotations

import datetime as dt
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from ponte.access.keys import Key, digest_of

#: Longer texts are no keys and are not looked at.
_LONGEST = 128


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
        digest = digest_of(token)
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
