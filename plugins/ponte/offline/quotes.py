"""CSV whose quotes are closed: one that is left open makes a single value of all rows behind it, which nobody misses.

pyarrow takes a quote that ends with the file for a closed one, and text behind a closing quote for a part of the value.
So the bytes are looked at on their way to it.
"""

from __future__ import annotations

import re
from typing import IO

from ponte.errors import PonteError


class ClosedQuotes:
    """A file of CSV to read from; `read` raises PonteError for a quote that is not closed where its value ends.

    Quotes within a value that does not begin with one are plain text.
    head : lines that were read before; longest : bytes that a value can have.
    """

    closed = False

    def __init__(self, file: IO[bytes], where: str, *, delimiter: str, head: int, longest: int) -> None:
        self._file, self._where, self._longest = file, where, longest
        ends = re.escape(delimiter.encode()) + rb"\r\n"
        #: As far as all quotes are text, or open and close a value.
        self._right = re.compile(rb'(?:[^"]++|(?<![%s])"|"(?:[^"]++|"")*+"(?=[%s]))*+' % (ends, ends))
        #: The last byte that is in order, and all behind it.
        self._open = b"\n"
        self._line = head + 1

    def readable(self) -> bool:
        return True

    def read(self, size: int) -> bytes:
        """Return at most so many bytes of the file, nothing at its end."""
        found = self._file.read(size - 1)
        if found.endswith(b"\r"):  # pyarrow drops a line feed that begins a block, within quotes too
            found += self._file.read(1)
        # What is not there ends a value, too.
        text = self._open + (found or b"\n")
        end = len(text)
        if b'"' in text:
            match = self._right.match(text, 1)
            assert match is not None  # it matches nothing, too
            end = match.end()
        self._line += text.count(b"\n", 1, end)
        self._open = text[end - 1 :]
        if len(self._open) > (self._longest if found else 1):
            raise PonteError(
                "a quote is not closed where its value ends",
                where=f"{self._where}, line {self._line}",
                got=repr(self._open[1:][:60].decode(errors="replace")),
                fix='close it; a quote within quotes is written twice, as in "5"" pipe"',
            )
        return found
