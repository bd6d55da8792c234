"""Two versions of a model whose folder changed between them: for the tests of pages."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpx import Response
    from starlette.testclient import TestClient
    from tests.sample_model import World

HOSTILE = "<script>document.title='ran'</script>\u202e" + "W" * 500


def two_versions(world: World) -> None:
    """Train version 2 beside champion 1, of a folder whose texts would like to be more than text."""
    text = world.folder.text("estimator.py") + f"\n# {HOSTILE}\n" + "# x\n" * 1_000
    changed = world.with_model(files={"estimator.py": text, "README.md": "# " + "W" * 1_000_000})
    changed.train(run_id="second", promote=False)
    changed.mark(2, "not bad", run_id="looked at")
    changed.mark(2, "bad", run_id="marked")


def preview(client: TestClient, form: str, typed: dict[str, str]) -> Response:
    """Return the answer to a form of `/ponte/act/` with what is typed; "*" stands for the first of a list."""
    text = client.get(f"/ponte{form}").text
    hidden = dict(re.findall(r'"hidden" name="(\w+)" value="([^"]*)"', text))
    listed = re.findall(r'<option value="(\d+)"', text)
    fields = {name: listed[0] if value == "*" else value for name, value in typed.items()}
    sent = {**{name: html.unescape(value) for name, value in hidden.items()}, **fields, "step": "preview"}
    return client.post("/ponte/act", data=sent, headers={"Sec-Fetch-Site": "same-origin"})
