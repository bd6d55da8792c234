"""Rows as lines of COPY: what PostgreSQL reads is what was answered."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from ponte.live.tables import LiveTable

TABLE = LiveTable("m", {"request_id": "uuid", "low": "number"})


@example([1.5, math.nan])
@example([-math.inf, 0.1])
@given(st.lists(st.floats() | st.none(), min_size=1, max_size=5))
def test_a_number_is_read_as_the_same_to_the_last_bit(values: list[float | None]) -> None:
    lines = TABLE.lines({"request_id": ["id"] * len(values), "low": values})
    texts = [line.removeprefix("id\t").removesuffix("\n") for line in lines]
    assert len(texts) == len(values)
    for text, value in zip(texts, values, strict=True):
        if value is None:
            assert text == "\\N"
        else:
            read = float(text)
            assert (math.isnan(read) and math.isnan(value)) or (read, math.copysign(1, read)) == (
                value, math.copysign(1, value),
            )  # fmt: skip
