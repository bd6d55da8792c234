"""Fetches a file of the package index whose SHA-256 is pinned: what else comes is refused, and nothing of it is run.

`pip download` would run the setup.py of a source distribution to learn its name, and the image of docker compose has no
pip. The index is that of pip or uv, by their variables; a proxy and its exceptions are those of the environment.
"""

from __future__ import annotations

import hashlib
import html
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from ponte.errors import PonteError

PYPI = "https://pypi.org/simple"
#: Variables that name the index, the first that is set counts.
INDEX = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
#: Of a file list as JSON; an index that knows none sends HTML.
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PinnedFile:
    """A file of the package index, known to the byte."""

    #: Name of the project in the index, normalised: lower case, hyphens.
    project: str
    filename: str
    sha256: str
    #: Size in bytes; more is not read.
    size: int


def fetch(file: PinnedFile, environ: Mapping[str, str]) -> bytes:
    """Return the bytes of the file, which have the pinned digest; raises PonteError.

    environ : names the index (`INDEX`) and, as PIP_CERT, whom to trust instead of the usual authorities.
    """
    index = httpx.URL(next((environ[name] for name in INDEX if environ.get(name)), PYPI).rstrip("/") + "/")
    where = f"{file.filename}, from the package index at {index.host}"
    try:
        trusted = ssl.create_default_context(cafile=environ["PIP_CERT"]) if environ.get("PIP_CERT") else True
        with httpx.Client(follow_redirects=True, timeout=_TIMEOUT_SECONDS, verify=trusted) as client:
            listed = client.get(index.join(f"{file.project}/"), headers={"Accept": _ACCEPT}).raise_for_status()
            content = _download(client, _address(listed, file, where), file.size)
    except (httpx.HTTPError, OSError) as error:
        got = re.sub(r"//[^/@\s']*@", "//", str(error)) or type(error).__name__  # an address may hold a password
        fix = f"is the index reachable? {', '.join(INDEX)} name another one; the same command goes on from here"
        raise PonteError("the data could not be fetched", where=where, got=got, fix=fix) from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise PonteError(
            "the file is not the one that is pinned; nothing of it was used",
            where=where,
            got=f"{len(content):,} bytes or more, SHA-256 {found}",
            expected=f"{file.size:,} bytes, SHA-256 {file.sha256}",
            fix="try another index",
        )
    return content


def _address(listed: httpx.Response, file: PinnedFile, where: str) -> httpx.URL:
    """Return where the index keeps the file; addresses may be relative to the list."""
    if "json" in listed.headers.get("content-type", ""):
        addresses = [str(entry["url"]) for entry in listed.json()["files"] if entry["filename"] == file.filename]
    else:
        found = re.findall(r"""<a\s[^>]*?href\s*=\s*["']([^"']+)""", listed.text, re.IGNORECASE)
        addresses = [url for url in map(html.unescape, found) if httpx.URL(url).path.endswith(f"/{file.filename}")]
    if not addresses:
        fix = f"name an index that has it: {', '.join(INDEX)}"
        raise PonteError("the index has no such file", where=where, fix=fix)
    return listed.url.join(addresses[0])


def _download(client: httpx.Client, address: httpx.URL, size: int) -> bytes:
    """Return what the address sends, at most about `size` bytes and one chunk."""
    content = bytearray()
    with client.stream("GET", address) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            content += chunk
            if len(content) > size:
                break
    return bytes(content)
