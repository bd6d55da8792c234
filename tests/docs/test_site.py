"""docs/ as a site: every link leads somewhere, every page is found, and nothing is fetched from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def built(root: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a folder that has mkdocs.yml, as `make docs` does."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    done = built(ROOT, target)
    assert done.returncode == 0, done.stderr
    return target


def test_every_page_is_on_the_site_and_in_its_navigation(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    start = (site / "index.html").read_text()
    linked = set(re.findall(r'href="([^"#:]+\.html)', start)) | {"index.html"}
    assert {"index.html" if page.name == "README.html" else page.as_posix() for page in pages} <= linked
    headings = [
        start.index(f"\n    {word}\n") for word in ("Tutorials", "How-to", "Reference", "Explanation", "Decisions")
    ]
    assert headings == sorted(headings)


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"|<link [^>]*href="([^"]+)"', page.read_text())
        assert not [one for pair in fetched for one in pair if one.startswith(("http", "//"))], page


def test_a_link_that_leads_nowhere_stops_it(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("mkdocs.yml", "docs/hooks.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "docs" / "README.md").write_text("# Start\n\n[there](nowhere.md) and [outside](../CHANGELOG.md)\n")
    done = built(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert "nowhere.md" in done.stdout + done.stderr
    assert "CHANGELOG" not in done.stdout + done.stderr
