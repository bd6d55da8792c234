"""The form as a person uses it, on a desktop and on a phone, in a browser that runs no scripts.

PONTE_TEST_PICTURES names a folder for pictures of it: those of docs/images.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright
from tests.e2e.browser import FLAGS, chromium
from tests.sample_form import APPLICANT, SampleService, sample_app

DESKTOP: dict[str, Any] = {"viewport": {"width": 1180, "height": 900}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True,
}  # fmt: skip
#: Label → what is typed, of the fields that are neither chosen nor clicked.
TYPED = {
    "Income in a year": "income",
    "Instalments, as a share of income": "debt_to_income",
    "Years in this job": "years_employed",
    "Years since the first credit": "credit_years",
    "All credit limits together": "total_credit_limit",
    "How much of them is used": "total_credit_utilized",
    "Limits of all bank cards together": "total_debit_limit",
    "Credit accounts, ever": "total_credit_lines",
    "Credit accounts that are open": "open_credit_lines",
    "Credit cards with a balance": "num_cc_carrying_balance",
    "Mortgages": "num_mort_accounts",
    "Other loans that are being paid back": "current_installment_accounts",
    "Accounts opened in the last two years": "accounts_opened_24m",
    "Credit inquiries in the last year": "inquiries_last_12m",
    "Late payments in the last two years": "delinq_2y",
    "Bankruptcies on record": "public_record_bankrupt",
}


@pytest.fixture
def service() -> SampleService:
    return SampleService()


@pytest.fixture
def url(service: SampleService) -> Iterator[str]:
    """A server with the sample form on a port of its own."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(sample_app(service), ws="none", log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{taken.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@contextmanager
def person(**device: Any) -> Iterator[tuple[BrowserContext, list[str]]]:
    """Yield a browser that runs no scripts, and what it complains about."""
    program = chromium()
    complaints: list[str] = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=program, headless=True, args=FLAGS, java_script_enabled=False, **device
        )
        context.on("console", lambda message: complaints.append(message.text))
        context.on("requestfailed", lambda request: complaints.append(request.url))
        try:
            yield context, complaints
        finally:
            context.close()


def fill_in(page: Page) -> None:
    page.get_by_label("What is it for?").select_option("Home improvement")
    page.get_by_label("Two together").check()
    page.get_by_label("Yes, where it comes from").check()
    page.get_by_label("Owned, with a mortgage").check()
    for label, column in TYPED.items():
        page.get_by_label(label, exact=True).fill(APPLICANT[column])


@pytest.mark.parametrize(("device", "name"), [(DESKTOP, "desktop"), (PHONE, "phone")])
def test_a_person_asks_mends_a_mistake_reads_the_answer_and_says_that_it_was_wrong(
    service: SampleService, url: str, device: dict[str, Any], name: str
) -> None:
    with person(locale="en-GB", **device) as (context, complaints):
        page = context.pages[0]
        page.goto(f"{url}/form/loan_amount")
        expect(page.get_by_role("heading", level=1)).to_have_text("How much could you borrow?")
        fill_in(page)
        page.get_by_role("button", name="How much?").click()

        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("Credit cards: please fill this in")
        picture(page, f"form-{name}-wrong")
        alert.get_by_role("link", name="Credit cards").click()
        field = page.get_by_label("Credit cards", exact=True)
        expect(field).to_be_in_viewport()
        expect(field).to_have_accessible_description("please fill this in usually 3 to 14")
        field.fill("7")
        expect(page.get_by_label("Income in a year")).to_have_value("84,000")
        page.get_by_role("button", name="How much?").click()

        expect(page.get_by_text("We can lend about 14,000 dollars")).to_be_visible()
        expect(page.get_by_text("For 8 of 10 applicants it was between 6,000 and 25,000.")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        picture(page, f"form-{name}")

        page.get_by_label("no, it was wrong").check()
        page.get_by_label("What would have been right?").fill("12,500")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_text("Thank you")).to_be_visible()
        picture(page, f"form-{name}-thanks")
    assert not [said for said in complaints if "status of 422" not in said]
    (asked,) = service.asked
    assert asked["income"] == 84_000
    assert asked["months_since_last_credit_inquiry"] is None
    (told,) = service.told
    assert (told.verdict, told.correct_label) == ("wrong", "12500.0")


def test_the_form_speaks_portuguese_and_is_dark_as_the_browser_asks(service: SampleService, url: str) -> None:
    with person(locale="pt-BR", color_scheme="dark", **PHONE) as (context, complaints):
        page = context.pages[0]
        page.goto(f"{url}/form/loan_amount")
        page.get_by_label("Renda em um ano").fill("84.000,50")
        picture(page, "form-phone-pt")
        page.get_by_role("button", name="Quanto?").click()
        expect(page.get_by_label("Renda em um ano")).to_have_value("84.000,5")
        expect(page.get_by_role("alert")).to_contain_text("Para que é?: preencha este campo")
    assert not [said for said in complaints if "status of 422" not in said]


def picture(page: Page, name: str) -> None:
    if folder := os.environ.get("PONTE_TEST_PICTURES"):
        size = page.viewport_size or {}
        clip: Any = {"x": 0, "y": 0, "width": size["width"], "height": 1250}
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True, clip=clip)
