"""Files that appear under their name whole or not at all: CSV or Parquet by the ending, or standard output."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ponte.errors import PonteError
from ponte.offline.source import PARQUET_ENDINGS
from ponte.storage.artifacts import sync_folder

if TYPE_CHECKING:
    import pyarrow as pa


class Output:
    """A table on its way into a file. Nothing is written before there is a row, or `finish` wants a file without any.

    path : None is `stream`. What was under the name before is replaced by `finish`, in one step. Raises PonteError for
    the name of what is no file, a folder or a device, and when the file cannot be written.
    """

    def __init__(self, path: Path | None, stream: IO[bytes] | None = None) -> None:
        if path is not None and path.exists() and not path.is_file():
            raise PonteError("the file cannot be written", where=str(path), got="something else has that name")
        self.path = path
        self._stream = stream
        self._temporary = None if path is None else path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        self._file: Any = None
        self._writer: Any = None

    def write(self, rows: pa.Table) -> None:
        """Append rows, of the same columns at every call."""
        with self._told():
            if self._writer is None:
                self._writer = self._open(rows.schema)
            self._writer.write_table(rows)

    def finish(self, otherwise: Callable[[], pa.Table] | None = None) -> bool:
        """Let the file appear and return True; without a row do so only with the empty table of `otherwise`.

        False, and no file under the name, not even an older one, when there is nothing to write.
        """
        if self._writer is None and otherwise is not None:
            self.write(otherwise())
        with self._told():
            if self._writer is None:
                if self.path is not None:
                    self.path.unlink(missing_ok=True)
                return False
            self._writer.close()
            self._file.flush()
            if self._temporary is not None and self.path is not None:
                os.fsync(self._file.fileno())
                self._file.close()
                self._temporary.replace(self.path)
                sync_folder(self.path.parent)
        return True

    def abandon(self) -> None:
        """Remove what was written; does nothing after `finish`."""
        if self._temporary is not None:
            if self._file is not None:
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    def _open(self, schema: pa.Schema) -> Any:
        import pyarrow.parquet as pq
        from pyarrow import csv

        self._file = self._stream if self._temporary is None else self._temporary.open("wb")
        if self.path is not None and self.path.suffix.lower() in PARQUET_ENDINGS:
            return pq.ParquetWriter(self._file, schema)
        return csv.CSVWriter(self._file, schema)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell of a file that cannot be written; what a stream raises, as when nobody reads it, is not ours to tell."""
        try:
            yield
        except OSError as error:
            if self.path is None:
                raise
            got = error.strerror or str(error)
            raise PonteError("the file cannot be written", where=str(self.path), got=got) from error
