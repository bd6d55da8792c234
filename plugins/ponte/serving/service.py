"""What all pages of the API share: who may ask, how much, what answers, and what is counted of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import compress
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from ponte.access.keys import Key
from ponte.access.limits import Bucket, KeyRing
from ponte.computing.workers import NotServed
from ponte.counting.bins import microseconds
from ponte.errors import PonteError, did_you_mean
from ponte.live import counting
from ponte.live.journal import Journal
from ponte.live.records import Problem
from ponte.live.tables import Source, Unscored
from ponte.serving.batching import Answered, Batch, Batcher, Serving
from ponte.storage.database import Database, is_transient

if TYPE_CHECKING:
    from ponte.serving.champions import Champions

#: Addresses that are remembered at once; the one that asked least recently is forgotten first.
MOST_ADDRESSES = 10_000
#: SQLSTATE object_not_in_prerequisite_state.
_NOT_NOW = "55000"

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How the API behaves, beside what model folders say."""

    #: Bytes of a request's body.
    body_bytes: int = 4 * 1024**2
    #: Instances of one request.
    instances: int = 1_000
    #: Seconds after which an answer would be too late.
    patience: float = 1.0
    #: Seconds that a body may take to arrive.
    body_seconds: float = 30.0
    #: Rows that one address may ask for within a minute where no key is needed.
    address_per_minute: int = 30


class Refused(PonteError):
    """A request that gets an error of HTTP; the caller is told all of it."""

    status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY
    problems: Sequence[Problem] = ()
    headers: dict[str, str]


def refused(status: HTTPStatus, what: str, *, problems: Sequence[Problem] = (), headers: dict[str, str] | None = None,
            **said: str) -> Refused:  # fmt: skip
    """Return the error for a status. said : where, got, expected and fix of a PonteError."""
    error = Refused(what, **said)
    error.status, error.problems, error.headers = status, problems, headers or {}
    return error


class Metrics:
    """What Prometheus is told. No label holds anything but names of models, versions and words of this module."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        ours: dict[str, Any] = {"namespace": "ponte_api", "registry": self.registry}
        self.requests = Counter("requests", "Requests, by status.", ["model", "endpoint", "status"], **ours)
        self.seconds = Histogram(
            "request_seconds", "From the first byte of a prediction's request to its answer.", ["model"],
            buckets=(0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5), **ours,
        )  # fmt: skip
        self.rows = Counter("rows", "Rows, answered or not.", ["model", "outcome"], **ours)
        sizes = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
        self.batch_rows = Histogram("batch_rows", "Rows of a batch.", ["model"], buckets=sizes, **ours)
        self.batch_seconds = Histogram("batch_seconds", "Seconds that a batch took.", ["model"], **ours)
        self.waiting = Gauge("waiting_rows", "Rows that wait for an answer.", ["model"], **ours)
        self.version = Gauge("model_version", "Version that answers; 0 for none.", ["model"], **ours)
        self.behind = Gauge("model_behind", "1 when the champion is not what answers.", ["model"], **ours)
        self.unkept = Gauge("unkept_rows", "Rows answered that wait to be kept in the database.", **ours)
        self.dropped = Gauge("dropped_rows", "Rows answered, and never kept.", **ours)
        self.database = Gauge("database_age_seconds", "Since the database last answered.", **ours)


@dataclass
class Service:
    """The API of one process."""

    db: Database
    champions: Champions
    keys: KeyRing
    #: What was answered, on its way into the database.
    journal: Journal
    settings: Settings = field(default_factory=Settings)
    metrics: Metrics = field(default_factory=Metrics)
    _batchers: dict[str, Batcher] = field(default_factory=dict)
    _addresses: OrderedDict[str, Bucket] = field(default_factory=OrderedDict)

    # ------------------------------------------------------------ who may ask

    def key_of(self, token: str | None) -> Key:
        """Return the key of a token; raises Refused (401) without one, and for one that is not valid."""
        key = None if token is None else self.keys.find(token, dt.datetime.now(dt.UTC))
        if key is None:
            raise refused(
                HTTPStatus.UNAUTHORIZED,
                "no key" if token is None else "no valid key: unknown, expired or revoked",
                expected="the header Authorization: Bearer ponte_…",
                fix="./ponte keys create makes one",
                headers={"WWW-Authenticate": 'Bearer realm="ponte"'},
            )
        return key

    def require_model(self, model: str, key: Key | None) -> None:
        """Raise Refused unless the model is served (404), and the key is one for it (403)."""
        if key is not None and not key.may_ask(model):
            raise refused(HTTPStatus.FORBIDDEN, "the key is not for this model", got=model,
                          expected=", ".join(key.models), fix="ask for a key for this model")  # fmt: skip
        folders = self.champions.folders
        if model not in folders:
            fix = did_you_mean(model, [name for name in folders if key is None or key.may_ask(name)])
            raise refused(HTTPStatus.NOT_FOUND, "no such model is served", got=model, fix=fix)

    def serving(self, model: str) -> Serving:
        """Return what answers for a model; raises Refused (503) that says why nothing does."""
        found = self.champions.get(model)
        if found is None:
            raise self._not_served(model, self.champions.why_not(model))
        return found

    def take(self, key: Key, cost: int) -> None:
        """Count rows that a key asks for; raises Refused (429) when they are too many."""
        seconds = self.keys.take(key, cost, time.monotonic())
        if seconds:
            raise _too_many(f"the key may ask for {key.per_minute} rows a minute", seconds)

    def take_of_address(self, address: str, cost: int = 1) -> None:
        """Count rows that an address asks for without a key; raises Refused (429) when they are too many."""
        now, size = time.monotonic(), self.settings.address_per_minute
        bucket = self._addresses.pop(address, None) or Bucket(size, now, size)
        self._addresses[address] = bucket
        if len(self._addresses) > MOST_ADDRESSES:
            self._addresses.popitem(last=False)
        if seconds := bucket.take(cost, now):
            raise _too_many(f"one address may ask for {size} rows a minute", seconds)

    # ------------------------------------------------------------ answering

    async def answer(self, model: str, instances: list[Any], keys: list[Any] | None, *, source: Source) -> Answered:
        """Return the answers for instances, each a mapping of column to value; raises Refused.

        keys : of each instance a mapping of key column to value, or None. source : `api` or `form`.
        """
        batcher = self._batchers.get(model)
        if batcher is None:
            batcher = self._batchers[model] = self._batcher(model)
        try:
            answered = await batcher.ask(instances, keys, source)
        except NotServed as error:
            raise self._not_served(model, self.champions.why_not(model) or str(error)) from error
        if answered.problems:
            raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "the request cannot be understood; nothing was scored",
                          where=f"model {model}, version {answered.serving.version.version}",
                          problems=answered.problems)  # fmt: skip
        bad = len(answered.unanswered)
        if bad:
            self.metrics.rows.labels(model, "unanswered").inc(bad)
        self.metrics.rows.labels(model, "answered").inc(len(instances) - bad)
        return answered

    def keep(self, batch: Batch) -> None:
        """Give what was answered to the journal, which never makes anybody wait."""
        serving, version = batch.serving, batch.serving.version
        columns: dict[str, Any] = {"request_id": batch.request_ids, **batch.answers.columns}
        for column in version.signature.key:
            values = batch.rows.column(column.name)
            if any(value is not None for value in values):
                columns[column.name] = values
        folder = self.champions.folders.get(version.model)  # None: it went while this was computed
        if folder is not None and folder.spec.serving.log_features:
            names = [c.name for c in version.signature.features]
            features = zip(*(batch.rows.column(name) for name in names), strict=True)
            columns["features"] = [dict(zip(names, row, strict=True)) for row in features]
        moment = microseconds(batch.asked_at)
        sources = set(batch.sources)
        whole = len(sources) == 1 and not batch.answers.unanswered
        for source in sources:
            mine, said, unscored = (columns, batch.answers.columns, []) if whole else _of_source(batch, columns, source)
            mine |= {"scored_at": batch.asked_at, "model_version": version.version}
            count = counting.Answered(of=serving.counted, asked_at=moment, rows=batch.rows, answers=said)
            self.journal.put(
                serving.table, mine, source=source, asked_at=batch.asked_at, unscored=unscored, beside=count
            )

    def _batcher(self, model: str) -> Batcher:
        def keep(batch: Batch) -> None:
            self.keep(batch)

        def current() -> Serving | None:
            return self.champions.get(model)

        batcher = Batcher(model, current, keep=keep, patience=self.settings.patience)
        rows, seconds = self.metrics.batch_rows.labels(model), self.metrics.batch_seconds.labels(model)

        def on_batch(count: int, took: float) -> None:
            rows.observe(count)
            seconds.observe(took)

        batcher.on_batch = on_batch
        return batcher

    def _not_served(self, model: str, why: str) -> Refused:
        return refused(HTTPStatus.SERVICE_UNAVAILABLE, "nothing answers for the model at the moment",
                       where=f"model {model}", got=why, headers={"Retry-After": "5"})  # fmt: skip

    # ------------------------------------------------------------ the database, and what is counted

    async def ask_database(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, in a thread; raises Refused (503) while the database is away."""
        try:
            return await asyncio.to_thread(work)
        except sa.exc.DBAPIError as error:
            # What a function of the database has refused in its own words is told in these.
            if not is_transient(error) or getattr(error.orig, "pgcode", None) == _NOT_NOW:
                raise
            raise refused(HTTPStatus.SERVICE_UNAVAILABLE, "the database is away", fix="ask again later; predictions "
                          "go on without it", headers={"Retry-After": "5"}) from error  # fmt: skip

    def refresh_metrics(self) -> None:
        """Set what is looked up when Prometheus asks."""
        for model in self.champions.folders:
            serving, batcher = self.champions.get(model), self._batchers.get(model)
            self.metrics.version.labels(model).set(serving.version.version if serving else 0)
            self.metrics.behind.labels(model).set(bool(self.champions.why_not(model)))
            self.metrics.waiting.labels(model).set(batcher.waiting if batcher else 0)
        self.metrics.unkept.set(self.journal.waiting)
        self.metrics.dropped.set(self.journal.dropped)
        seen = self.champions.seen_at
        self.metrics.database.set(float("inf") if seen is None else time.monotonic() - seen)


def _of_source(
    batch: Batch, columns: Mapping[str, list[Any]], source: Source
) -> tuple[dict[str, Any], Mapping[str, list[Any]], list[Unscored]]:
    """Return the answers of what came from a source; those of all rows, None of others; what has no answer."""
    unanswered = batch.answers.unanswered
    chosen = [one == source and place not in unanswered for place, one in enumerate(batch.sources)]
    mine = {name: list(compress(of, chosen)) for name, of in columns.items()}
    said = dict(batch.answers.columns)
    said["prediction"] = [one if good else None for one, good in zip(said["prediction"], chosen, strict=True)]
    return mine, said, [row for row in _unscored(batch, columns) if row.source == source]


def _unscored(batch: Batch, columns: Mapping[str, list[Any]]) -> list[Unscored]:
    """Return the rows of a batch that have no answer, for the quarantine."""
    version = batch.serving.version
    names = [c.name for c in version.signature.key if c.name in columns]
    return [
        Unscored(
            request_id=batch.request_ids[place],
            model=version.model,
            source=batch.sources[place],
            asked_at=batch.asked_at,
            why=why.why,
            kind=why.kind,
            key={name: columns[name][place] for name in names} or None,
            model_version=version.version,
            features=columns["features"][place] if "features" in columns else None,
        )
        for place, why in batch.answers.unanswered.items()
    ]


def _too_many(expected: str, seconds: float) -> Refused:
    wait = str(int(seconds) + 1)
    return refused(HTTPStatus.TOO_MANY_REQUESTS, "too many rows were asked for", expected=expected,
                   fix=f"ask again in {wait} s", headers={"Retry-After": wait})  # fmt: skip
