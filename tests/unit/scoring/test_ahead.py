"""Stages that overlap hand on every item in order, stay close together, and end together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.scoring.ahead import Ahead


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Whatever a test does, the threads that it started are gone when the context manager has been left."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@given(st.lists(st.integers()), st.integers(1, 5))
def test_every_item_arrives_once_in_order(items: list[int], depth: int) -> None:
    with Ahead(items, depth=depth) as ahead:
        assert list(ahead) == items


@given(st.lists(st.integers(), max_size=30), st.integers(1, 3), st.integers(1, 3))
def test_stages_behind_one_another_hand_on_every_item_in_order(items: list[int], first: int, second: int) -> None:
    with Ahead(items, depth=first) as numbers, Ahead((n + 1 for n in numbers), depth=second) as more:
        assert list(more) == [n + 1 for n in items]


def test_after_the_end_there_is_nothing_more() -> None:
    with Ahead([1], depth=1) as ahead:
        assert [next(ahead, None) for _ in range(3)] == [1, None, None]


class Unforeseen(BaseException):
    """No Exception, as KeyboardInterrupt is none."""


@pytest.mark.parametrize("error", [ValueError("in the middle"), MemoryError(), Unforeseen(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("stages", [1, 2])
def test_what_the_producer_raises_is_raised_after_the_items_before_it(error: BaseException, stages: int) -> None:
    """The very same object, so that its type, its cause and its traceback tell what they would without a thread."""

    def items() -> Iterator[int]:
        yield from (1, 2)
        raise error

    seen: list[int] = []

    def read(source: Iterator[int], more: int) -> None:
        with Ahead(source, depth=5) as ahead:
            if more:
                read(ahead, more - 1)
            seen.extend(ahead)

    with pytest.raises(type(error)) as caught:
        read(items(), stages - 1)
    assert caught.value is error
    assert seen == [1, 2]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_producer_is_never_more_than_its_depth_and_one_in_hand_ahead(depth: int) -> None:
    """Memory holds these few items, however many there are: the bound is what makes a large batch small."""
    made = 0

    def items() -> Iterator[int]:
        nonlocal made
        for n in range(50):
            made += 1
            yield n

    with Ahead(items(), depth=depth) as ahead:
        for taken in range(1, 20):
            next(ahead)
            wait_for(lambda expected=taken + depth + 1: made >= expected)
            time.sleep(0.01)  # as long as one step too many would take
            assert made == taken + depth + 1


def wait_for(reached: Callable[[], bool]) -> None:
    """Wait until the producer has got as far as it may."""
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline, "the producer stands still"
        time.sleep(0.001)


@pytest.mark.parametrize("how", ["leaves", "fails", "reads nothing"])
def test_a_reader_that_leaves_early_ends_the_producer_before_the_context_is_left(how: str) -> None:
    """What the items come from, a cursor say, is closed right after."""
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            n = 0
            while True:
                yield (n := n + 1)
        finally:
            closed.set()

    def read() -> None:
        with Ahead(endless(), depth=2) as ahead:
            if how == "reads nothing":
                return
            assert next(ahead) == 1
            if how == "fails":
                raise LookupError("of the reader")

    if how == "fails":
        with pytest.raises(LookupError, match="of the reader"):
            read()
    else:
        read()
    assert closed.is_set()


def test_an_error_of_the_last_stage_ends_all_stages_before_it() -> None:
    made = 0

    def endless() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    def read() -> None:
        with Ahead(endless(), depth=2) as first, Ahead((n for n in first), depth=2) as second:
            next(second)
            raise LookupError

    with pytest.raises(LookupError):
        read()
    assert made <= 1 + 2 * (2 + 1) + 2


def test_producer_and_reader_work_at_the_same_time() -> None:
    """Each waits for a sign of the other in the middle of an item, so one after the other would stand still."""
    reading, producing = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert reading.wait(10)
        producing.set()
        yield 2

    with Ahead(items(), depth=1) as ahead:
        assert next(ahead) == 1
        reading.set()
        assert producing.wait(10)
        assert list(ahead) == [2]


def test_an_error_waits_its_turn_while_the_queue_is_full() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2, 3)
        raise LookupError

    with Ahead(items(), depth=1) as ahead:
        time.sleep(0.05)
        assert [next(ahead) for _ in range(3)] == [1, 2, 3]
        with pytest.raises(LookupError):
            next(ahead)
