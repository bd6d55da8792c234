"""Airflow's UI as a person uses it: Debian's chromium without a screen, driven by Playwright."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

#: Nothing of the person's own browser, and no talk with anybody but Airflow.
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

#: Milliseconds for one thing to appear; the machine may be busy.
PATIENCE = 60_000


def chromium() -> str:
    """Return the browser of this machine; the test is skipped where there is none."""
    found = shutil.which("chromium")
    if not found:
        pytest.skip("there is no chromium on the PATH, so nobody presses the buttons of the trigger form: install it")
    return found


@contextmanager
def logged_in(url: str, *, user: str, password: str) -> Iterator[Browser]:
    """Yield a browser in which the person has logged in to Airflow."""
    program = chromium()
    # Chromium still writes into its folder while it ends.
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        context: BrowserContext = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=program,
            headless=True,
            args=FLAGS,
            viewport={"width": 1440, "height": 900},
            locale="en-US",
            timezone_id="UTC",
        )
        try:
            page = context.pages[0]
            page.set_default_timeout(PATIENCE)
            expect.set_options(timeout=PATIENCE)
            page.goto(url)
            page.get_by_label("Username").fill(user)
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_test_id("nav-dags-link")).to_be_visible()
            yield Browser(page)
        finally:
            context.close()


@dataclass(frozen=True)
class Browser:
    """A page of Airflow's UI."""

    page: Page

    def trigger(self, dag_id: str, *, picture: Path | None = None, **days: str) -> str:
        """Open a DAG and its form, type days into the fields of these parameters, and press the button.

        Everything else stays as the form is filled in. Returns the id of the run, to whose page the UI goes.
        """
        page = self.page
        page.get_by_test_id("nav-dags-link").click()
        page.get_by_role("link", name=dag_id, exact=True).first.click()
        button = page.get_by_test_id("trigger-dag-button")
        expect(button).to_have_count(1)  # the list of DAGs, which stays until the page of the DAG is there, has many
        button.click()
        form = page.get_by_role("dialog").filter(has_text=dag_id)
        logical_date = form.get_by_test_id("datetime-input").first
        expect(logical_date).to_contain_text(re.compile(r"20\d\d"))  # it is filled in
        for name, day in days.items():
            form.locator(f"#element_{name}").fill(day)
        if picture:
            page.screenshot(path=picture)
        form.get_by_test_id("trigger-dag-submit").click()
        page.wait_for_url(re.compile(rf"/dags/{dag_id}/runs/[^/]+$"))
        return page.url.rpartition("/")[2]

    def see_the_tasks_of_the_run(self, states: dict[str, str], *, picture: Path | None = None) -> None:
        """Wait until the page of the run shows that it has ended well, and every task with its state."""
        page = self.page
        for task_id, state in states.items():
            row = page.get_by_role("row").filter(has=page.get_by_role("link", name=re.compile(rf"^{task_id}\b"))).first
            expect(row).to_contain_text(re.compile(state.replace("_", "."), re.IGNORECASE))
        if picture:
            page.screenshot(path=picture)
