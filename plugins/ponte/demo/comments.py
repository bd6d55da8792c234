"""The data of the example `comment_sentiment`: tweets and sentences about films, each rated by people.

They are in the source distribution of the PyPI package vaderSentiment 0.5, of which nothing is run.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

from ponte.demo.fetching import PinnedFile
from ponte.demo.tables import Dataset
from ponte.errors import PonteError

if TYPE_CHECKING:
    import pandas as pd

ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
#: Kind of comment → its file in the archive: lines of number, mean rating and text, with tabs between.
SOURCES = {
    "tweet": "hutto_ICWSM_2014/tweets_GroundTruth.txt",
    "film": "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
}


def read_distribution(content: bytes) -> pd.DataFrame:
    """Return source, comment_id, rating (mean, -4 to 4) and text of every comment; raises PonteError."""
    import pandas as pd

    with zipfile.ZipFile(io.BytesIO(content)) as distribution:
        packed = distribution.read(ARCHIVE)
    rows: list[tuple[str, int, float, str]] = []
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        for source, name in SOURCES.items():
            member = archive.extractfile(name)
            assert member is not None  # a file, and no folder: the digest says so
            rows += _comments(source, member.read().decode("utf-8"), name)
    return pd.DataFrame(rows, columns=["source", "comment_id", "rating", "text"])


def _comments(source: str, text: str, name: str) -> list[tuple[str, int, float, str]]:
    found = []
    for number, line in enumerate(text.replace("\r\n", "\n").rstrip("\n").split("\n"), 1):
        parts = line.split("\t")
        if len(parts) != 3:  # noqa: PLR2004 - number, rating, text
            raise PonteError("is no comment", where=f"{name}, line {number}", expected="number, rating and text")
        found.append((source, int(parts[0]), float(parts[1]), parts[2]))
    return found


COMMENTS = Dataset(
    schema="comments",
    table="comment",
    file=PinnedFile(
        project="vadersentiment",
        filename="vaderSentiment-0.5.zip",
        sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
        size=2_448_964,
    ),
    read=read_distribution,
)
