"""Shards are ranges of pages."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.scoring import Shard, split_pages


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
    assert shards == [Shard(shard=n, first_page=a, end_page=b) for n, (a, b) in enumerate(ranges)]
