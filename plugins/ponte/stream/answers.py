"""From the requests of one take to rows of `live_<model>` and of `live_unscored`: each request becomes exactly one."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import sqlalchemy as sa

from ponte.errors import PonteError
from ponte.live import records
from ponte.scoring.answering import answer
from ponte.storage.database import DATA_SCHEMA, quote
from ponte.storage.withholding import said_of
from ponte.stream.champions import Serving
from ponte.stream.taking import DEATHS, Request, Taken

log = logging.getLogger(__name__)

SOURCE = "queue"
#: Ids in one message of `ponte_answer`: a payload has less than 8,000 bytes.
IDS_PER_MESSAGE = 200

_TELL = sa.text("SELECT pg_notify('ponte_answer', ids) FROM unnest(CAST(:messages AS text[])) AS ids")

_UNSCORED = ("request_id", "model", "key", "source", "why", "kind", "model_version", "asked_at", "features")


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a request gets no answer."""

    #: Without a value of the row.
    kind: str
    #: May hold values of the row.
    why: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the requests of a take."""

    answered: int
    failed: int
