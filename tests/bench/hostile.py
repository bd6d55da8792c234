"""Bodies that nobody should send, against an API that runs: no 500, no traceback, no log line with content.

Every body holds MARK, a word that occurs nowhere else. Statuses are counted; the log is read afterwards.

    ./ponte serve 2> api.log & ; python -m tests.bench.hostile 8088 KEY loan_amount api.log 10000

`tests/postgres/serving/test_process.py` does the same with a few hundred.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: In every body.
MARK = "Zyzzyva4711"

_VALUES: list[Any] = [
    None, True, 0, -1, 1e308, -1e308, 5e-324, 2**63, -(2**63), 2**64, 10**400, 0.1, "", "0", "NaN", "null",
    MARK, MARK * 500,
    "\0", f"{MARK}\0", "\ud800", "\U0010ffff", "'; DROP TABLE ponte.version; --", "{{7*7}}", "%s%n", "../../etc/passwd",
    [], [MARK], {}, {MARK: MARK}, "2026-02-30", "9999-12-31", "\u202e" + MARK, "1e5", "१२३", "\r\nX-Injected: 1",
]  # fmt: skip
_RAW: list[bytes] = [
    b"", b"{", b"}", b"null", b"[]", b"0", b'"', b'{"instances"', b'{"instances": NaN}', b'{"instances": [Infinity]}',
    b'{"instances": [' + b"[" * 50_000, b'{"a":' * 20_000, b"\xff\xfe{\x00}\x00", b"\x00" * 100,
    b'{"instances": ["\xc3\x28"]}',
    b'{"instances": [1e99999]}', b'{"instances": [' + b"9" * 10_000 + b"]}", b'{"instances": ["\\ud800"]}',
    b"instances=1&keys=2", b"<xml/>", b"\xef\xbb\xbf{}", b'{"instances": [{}], "instances": []}',
    b'{"instances": [{}],}',
]  # fmt: skip


def bodies(row: dict[str, Any], count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield that many bodies, each with MARK; row : an instance that the model takes."""
    pick = random.Random(seed)  # noqa: S311 - repeatable, no secret
    for _ in range(count):
        yield _WAYS[pick.randrange(len(_WAYS))](dict(row), pick)


def _raw(_: dict[str, Any], pick: random.Random) -> bytes:
    return pick.choice(_RAW) + f' "{MARK}"'.encode()


def _value(row: dict[str, Any], pick: random.Random) -> bytes:
    for name in pick.sample(list(row), pick.randint(1, len(row))):
        row[name] = pick.choice(_VALUES)
    return _dump({"instances": [row], "keys": [{MARK: 1}] if pick.random() < 0.3 else None})


def _names(row: dict[str, Any], pick: random.Random) -> bytes:
    name = pick.choice(list(row))
    row[pick.choice([name + MARK, name.upper(), MARK, "", "\0", name * 2000, "__proto__"])] = row.pop(name)
    return _dump(
        {"instances": [row] * pick.randint(1, 20), MARK: 1} if pick.random() < 0.2 else {"instances": [row, MARK]}
    )


def _shape(row: dict[str, Any], pick: random.Random) -> bytes:
    shapes: list[Any] = [
        {"instances": row}, {"instances": [row] * 1_001, "x": MARK}, {"instances": [[row]]},
        {"instances": [MARK] * 999},
        {"instances": [row], "keys": MARK}, {"instances": [row], "keys": [1, MARK]}, [row, MARK], {MARK: [row]},
        {"instances": [row], "keys": [{"visit_id": MARK}]}, {"instances": {}, "keys": {}, "signature_name": MARK},
    ]  # fmt: skip
    return _dump(pick.choice(shapes))


def _torn(row: dict[str, Any], pick: random.Random) -> bytes:
    whole = bytearray(_dump({"instances": [row, MARK]}))
    for _ in range(pick.randint(1, 6)):
        whole[pick.randrange(len(whole))] = pick.randrange(256)
    return bytes(whole[: pick.randint(1, len(whole))])


def _large(row: dict[str, Any], pick: random.Random) -> bytes:
    return _dump({"instances": [row], "x": MARK * pick.choice([1_000, 100_000, 600_000])})


_WAYS: list[Callable[[dict[str, Any], random.Random], bytes]] = [_raw, _value, _value, _value, _names, _shape, _torn]
_WAYS = [*_WAYS * 8, _large]


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def attack(port: int, key: str, model: str, row: dict[str, Any], count: int) -> Counter[int]:
    """Send the bodies to several pages; return how often each status came, 0 for a connection that was cut."""
    statuses: Counter[int] = Counter()
    pick = random.Random(1)  # noqa: S311 - repeatable, no secret
    paths = [f"/v1/models/{model}:predict"] * 6 + [
        f"/v1/models/{model}:enqueue",
        "/v1/feedback",
        f"/v1/models/{MARK}:predict",
    ]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for body in bodies(row, count):
        headers = {"Authorization": f"Bearer {key if pick.random() < 0.98 else MARK}"}
        try:
            connection.request("POST", f"{pick.choice(paths)}?q={MARK}", body, headers)
            reply = connection.getresponse()
            reply.read()
            statuses[reply.status] += 1
        except (http.client.HTTPException, OSError):  # the end of a body that is too large is not read
            statuses[0] += 1
            connection.close()
    connection.close()
    return statuses


def leaks(log: Path) -> list[str]:
    """Return the lines of a log that hold content or a traceback."""
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if MARK in line or "Traceback" in line]


def main() -> int:
    """Attack, and say what came of it."""
    port, key, model, log, count = sys.argv[1:]
    connection = http.client.HTTPConnection("127.0.0.1", int(port))
    connection.request("GET", "/openapi.json", headers={"Authorization": f"Bearer {key}"})
    document = json.load(connection.getresponse())
    body = document["paths"][f"/v1/models/{model}:predict"]["post"]["requestBody"]["content"]["application/json"]
    statuses = attack(int(port), key, model, body["example"]["instances"][0], int(count))
    found = leaks(Path(log))
    print(dict(sorted(statuses.items())), f"{len(found)} lines of the log with content or a traceback")
    return int(statuses[500] > 0 or bool(found))


if __name__ == "__main__":
    sys.exit(main())
