"""Shards are ranges of pages, chunks are rows that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.scoring.flow import CHUNK_BYTES, rechunked
from ponte.scoring.plan import Shard, split_pages, threads_for


@given(st.integers(1, 10**9), st.integers(1, 10**7), st.data())
def test_shards_cover_every_page_once_and_none_is_empty(row_count: int, page_count: int, data: st.DataObject) -> None:
    shard_rows = data.draw(st.integers(max(1, row_count // 2000), 10**9), label="shard_rows")
    shards = split_pages(row_count=row_count, page_count=page_count, shard_rows=shard_rows)
    assert [s.shard for s in shards] == list(range(len(shards)))
    assert (shards[0].first_page, shards[-1].end_page) == (0, page_count)
    assert all(a.end_page == b.first_page for a, b in pairwise(shards))
    assert all(s.first_page < s.end_page for s in shards)


@given(st.integers(1, 10**6), st.integers(1, 2000), st.integers(1, 10**6))
def test_no_more_shards_than_the_rows_need_and_their_pages_differ_by_one_at_most(
    row_count: int, page_count: int, shard_rows: int
) -> None:
    shards = split_pages(row_count=row_count, page_count=page_count, shard_rows=shard_rows)
    sizes = {s.end_page - s.first_page for s in shards}
    assert len(shards) == min(page_count, -(-row_count // shard_rows))
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("page_count", [0, 1, 10])
def test_no_rows_give_no_shard(page_count: int) -> None:
    """A table can keep pages without a row in them."""
    assert split_pages(row_count=0, page_count=page_count, shard_rows=100) == []


@pytest.mark.parametrize(
    ("row_count", "shard_rows", "ranges"),
    [
        (250, 100, [(0, 4), (4, 7), (7, 10)]),
        (100, 100, [(0, 10)]),
        (101, 100, [(0, 5), (5, 10)]),
        (1000, 1, [(n, n + 1) for n in range(10)]),
    ],
    ids=["three", "exactly one", "one row over", "a page is the least"],
)
def test_ten_pages_are_split_evenly(row_count: int, shard_rows: int, ranges: list[tuple[int, int]]) -> None:
    shards = split_pages(row_count=row_count, page_count=10, shard_rows=shard_rows)
    assert shards == [Shard(shard=n, shards=len(ranges), first_page=a, end_page=b) for n, (a, b) in enumerate(ranges)]


# ---------------------------------------------------------------- chunks


@given(
    st.lists(st.integers(0, 40), max_size=12),
    st.integers(1, 50),
    st.integers(1, 400),
)
def test_chunks_hold_the_same_rows_in_order_and_none_holds_more_than_it_may(
    sizes: list[int], rows: int, byte_count: int
) -> None:
    """However the database cuts its answer: empty batches, one row each, all at once."""
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    read = [pa.RecordBatch.from_pydict({"n": np.arange(a, a + n)}) for a, n in zip(starts, sizes, strict=True)]
    chunks = list(rechunked(read, rows=rows, byte_count=byte_count))

    assert [n for c in chunks for n in c.column("n").to_pylist()] == list(range(sum(sizes)))
    assert all(0 < c.num_rows <= rows for c in chunks)
    assert all(c.nbytes <= max(byte_count, 8) for c in chunks), "a row of 8 bytes is the least"
    full = min(rows, max(1, byte_count // 8))
    assert [c.num_rows for c in chunks[:-1]] == [full] * (len(chunks) - 1), "no chunk is smaller than it has to be"


@given(st.lists(st.lists(st.integers(0, 300), max_size=20), max_size=6), st.integers(1, 40), st.integers(50, 2000))
def test_chunks_of_rows_of_any_length_keep_their_bytes_within_what_is_read_at_once(
    lengths: list[list[int]], rows: int, byte_count: int
) -> None:
    """The length of a row is taken to be the mean of the batch that it is read with."""
    read = [pa.RecordBatch.from_pydict({"t": pa.array(["x" * n for n in some], pa.string())}) for some in lengths]
    chunks = list(rechunked(read, rows=rows, byte_count=byte_count))

    assert [t for c in chunks for t in c.column("t").to_pylist()] == ["x" * n for some in lengths for n in some]
    assert all(0 < c.num_rows <= rows for c in chunks)
    largest = max((batch.nbytes for batch in read), default=0)
    assert all(c.nbytes <= byte_count + 2 * largest for c in chunks)


def test_rows_of_a_megabyte_make_chunks_of_as_many_as_fit() -> None:
    million = "x" * 2**20
    read = [pa.RecordBatch.from_pydict({"t": [million] * 5}) for _ in range(20)]
    chunks = list(rechunked(read, rows=65_536, byte_count=CHUNK_BYTES))
    assert sum(c.num_rows for c in chunks) == 100
    assert {c.num_rows for c in chunks[:-1]} == {31}, "32 would be over, with the offsets"
    assert all(c.nbytes <= CHUNK_BYTES for c in chunks)


def test_a_row_that_is_longer_than_a_chunk_may_be_is_a_chunk_of_its_own() -> None:
    read = [pa.RecordBatch.from_pydict({"t": ["x" * 1000] * 3})]
    assert [c.num_rows for c in rechunked(read, rows=100, byte_count=10)] == [1, 1, 1]


def test_no_rows_give_no_chunk() -> None:
    empty = pa.RecordBatch.from_pydict({"n": pa.array([], pa.int64())})
    assert list(rechunked([], rows=1, byte_count=1)) == list(rechunked([empty, empty], rows=1, byte_count=1)) == []


def test_chunks_are_made_while_they_are_read() -> None:
    """Reading ahead of the first chunk is bounded by what it needs."""
    read = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield pa.RecordBatch.from_pydict({"n": np.arange(10)})

    next(rechunked(batches(), rows=25, byte_count=10**6))
    assert read == 3


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize(
    ("cores", "shards", "slots", "threads"),
    [
        (8, 1, 4, 8),
        (8, 4, 4, 2),
        (8, 100, 4, 2),
        (8, 2, 4, 4),
        (8, 16, 1, 8),
        (2, 100, 16, 1),
        (7, 2, 2, 3),
        (1, 1, 0, 1),
    ],
)
def test_shards_that_run_at_once_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, shards: int, slots: int, threads: int
) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: cores)
    assert threads_for(Shard(shard=0, shards=shards, first_page=0, end_page=1), slots=slots) == threads
