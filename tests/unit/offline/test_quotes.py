"""A quote that is not closed is an error that names its line; no row of a file goes into silence."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest

from ponte.errors import PonteError
from ponte.offline import source
from ponte.offline.source import open_source

HEAD = "number,name,note\n"


#: Bytes that are read at once: all of them, or about a row.
BLOCKS = pytest.mark.parametrize("block", [8 * 2**20, 41, 64])


@pytest.fixture
def block_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda size: monkeypatch.setattr(source, "_BLOCK", size)


def rows_of(text: str) -> tuple[list[list[str]], list[int]]:
    """Return the rows of a file as they are read, and the numbers of those that are broken."""
    rows, broken = [], []
    with open_source("-", io.BytesIO(text.encode()), delimiter=",") as opened:
        for given in opened.chunks(list(opened.names)):
            rows += [[(cell or b"").decode() for cell in row.values()] for row in given.rows.to_pylist()]
            broken += [row.number for row in given.broken]
    return rows, broken


PLAIN = "".join(f"{n},name {n},note {n}\n" for n in range(2, 50))
QUOTED = "".join(f'{n},"name {n}","{n}"\n' for n in range(2, 50))


@BLOCKS
@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("others", ["", PLAIN, QUOTED], ids=["alone", "plain", "quoted"])
@pytest.mark.parametrize(
    "row",
    ['"1,x,y', '1,"x,y', '1,x,"y', '1,x,"', '1,x,"y""', '1,x"",""y', '1,"x"y,z', '1,x,"y" ', '1,x,"y"z"'],
)
def test_a_quote_that_is_not_closed_is_an_error_with_its_line(
    row: str, others: str, end: str, block: int, block_of: Callable[[int], None]
) -> None:
    block_of(block)
    before = '0,"two\nlines",""\n'
    with pytest.raises(PonteError, match="a quote is not closed") as raised:
        rows_of(HEAD + before + f"{row}\n{others}".rstrip("\n") + end)
    assert "line 4" in str(raised.value)


@BLOCKS
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_is_right_is_read_as_python_reads_it(end: str, block: int, block_of: Callable[[int], None]) -> None:
    block_of(block)
    lines = ['1,"two\nlines",""', '2,"a ""word"" of it",""""', '3,5" pipe,6"', '4,"","a,b"', '5, "x",y"', '6,"x\r\n",z']
    text = end.join([*lines, '"7",x,"y"'])
    assert rows_of(HEAD + text) == (list(csv.reader(io.StringIO(text, newline=""))), [])
    assert rows_of(HEAD + text + end) == rows_of(HEAD + text)


def test_a_value_is_no_longer_than_a_block(block_of: Callable[[int], None]) -> None:
    block_of(100)
    assert len(rows_of(HEAD + QUOTED)[0]) == len(QUOTED.splitlines())
    with pytest.raises(PonteError, match="line 2"):
        rows_of(HEAD + '1,"x\n' + PLAIN + 'a,x",y\n')


@pytest.mark.parametrize("head", ['number,name,"note\n', 'number,"name,note\n', '"number"s,name,note\n'])
def test_a_quote_among_the_names_takes_no_row_for_a_name(head: str) -> None:
    with pytest.raises(PonteError, match="no names of columns"):
        rows_of(head + PLAIN)
