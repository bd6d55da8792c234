"""The loan form of the demo with invented counts, and a service behind it that needs no database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from fastapi import FastAPI

from ponte.counting.bins import Bins
from ponte.counting.reference import Counted
from ponte.demo.examples import FOLDERS
from ponte.forms.answers import Answer
from ponte.forms.asking import Busy, OpenForm, Refused, Told, Verdict
from ponte.forms.card import read_card
from ponte.forms.fields import FormFacts
from ponte.model.folders import ModelFolder, load_folder
from ponte.serving.form_routes import router
from ponte.storage.columns import Column, Family

#: Column → family, and what it usually is: nine deciles, or the values; None where it may be NULL.
_LOAN: dict[str, tuple[Family, tuple[Any, ...], bool]] = {
    "income": ("number", (34_000, 44_000, 52_500, 60_000, 70_000, 80_000, 95_000, 115_000, 150_200), False),
    "debt_to_income": ("number", (6.4, 9.8, 12.6, 15.2, 17.9, 20.7, 24.1, 28.3, 34.6), True),
    "years_employed": ("number", (1, 2, 3, 4, 6, 8, 9, 10, 10.5), True),
    "credit_years": ("integer", (7, 9, 11, 13, 15, 17, 19, 22, 28), False),
    "homeownership": ("text", ("MORTGAGE", "RENT", "OWN"), False),
    "verified_income": ("text", ("Source Verified", "Not Verified", "Verified"), False),
    "application_type": ("text", ("individual", "joint"), False),
    "loan_purpose": (
        "text",
        ("debt_consolidation", "credit_card", "other", "home_improvement", "major_purchase", "medical", "car"),
        False,
    ),
    "delinq_2y": ("integer", (0, 0.5, 1), False),
    "inquiries_last_12m": ("integer", (0, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5), False),
    "months_since_last_credit_inquiry": ("integer", (1, 2, 3, 5, 6, 8, 11, 14, 18), True),
    "total_credit_lines": ("integer", (10, 13, 16, 19, 21, 24, 28, 32, 39), False),
    "open_credit_lines": ("integer", (5, 6.5, 8, 9, 10, 11.5, 13, 15, 19), False),
    "total_credit_limit": ("integer", (31_400, 78_000, 151_000, 262_000, 451_000), False),
    "total_credit_utilized": ("integer", (9_600, 22_700, 37_600, 60_100, 118_000), False),
    "current_installment_accounts": ("integer", (0, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5), False),
    "accounts_opened_24m": ("integer", (1, 2, 2.5, 3, 3.5, 4, 5, 6, 8), False),
    "total_debit_limit": ("integer", (5_000, 8_100, 11_900, 15_700, 20_200, 25_600, 32_400, 42_800, 61_500), False),
    "num_open_cc_accounts": ("integer", (3, 4, 5, 6, 7, 8, 9, 11, 14), False),
    "num_cc_carrying_balance": ("integer", (2, 2.5, 3, 4, 4.5, 5, 6, 7, 9), False),
    "num_mort_accounts": ("integer", (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4), False),
    "public_record_bankrupt": ("integer", (0, 0.5, 1), False),
}  # fmt: skip

#: Input → what an applicant types.
APPLICANT = {
    "loan_purpose": "=home_improvement",
    "application_type": "=joint",
    "income": "84,000",
    "verified_income": "=Source Verified",
    "debt_to_income": "17.5",
    "years_employed": "6",
    "homeownership": "=MORTGAGE",
    "credit_years": "14",
    "total_credit_limit": "212,000",
    "total_credit_utilized": "38,500",
    "total_debit_limit": "21,000",
    "total_credit_lines": "22",
    "open_credit_lines": "11",
    "num_open_cc_accounts": "7",
    "num_cc_carrying_balance": "4",
    "num_mort_accounts": "1",
    "current_installment_accounts": "2",
    "accounts_opened_24m": "3",
    "inquiries_last_12m": "1",
    "months_since_last_credit_inquiry": "",
    "delinq_2y": "0",
    "public_record_bankrupt": "0",
}


def counted(
    name: str, kind: Any, *, edges: Sequence[float] = (), values: Sequence[str] = (), rows: Sequence[int] = ()
) -> Counted:
    """Return a column counted in one window. rows : per bin, as `counting.bins` lays them out."""
    bins = Bins(name=name, kind=kind, edges=tuple(map(float, edges)), values=tuple(values))
    return Counted(bins, np.array([rows or [100] * bins.size]), np.array([False]))


def loan_folder() -> ModelFolder:
    """Return the folder of the demo."""
    return load_folder(FOLDERS / "loan_amount")


def loan_facts() -> FormFacts:
    """Return what the loan form is made of."""
    folder, columns = loan_folder(), []
    for name, (family, usual, nullable) in _LOAN.items():
        null = [40 * nullable]
        if family == "text":
            columns.append(
                counted(name, "value", values=usual, rows=[500] * len(usual) + [7 * (name == "loan_purpose")] + null)
            )
        else:
            columns.append(counted(name, "number", edges=usual, rows=[500] * (len(usual) + 1) + null))
    return FormFacts(
        model="loan_amount",
        version=3,
        description=folder.spec.description,
        task="regression",
        features=tuple(Column(name=name, family=family) for name, (family, _, _) in _LOAN.items()),
        counted=tuple(columns),
        words=read_card(folder.card),
        checks=folder.spec.checks,
        decision=folder.spec.serving.decision,
        interval=0.8,
    )


ANSWER = Answer(
    prediction=14_237.4, low=6_540.2, high=24_480.9, version=3, request_id="019ac7b2-3f00-7c1a-9d5e-2b8f6a4e1c07"
)


@dataclass
class SampleService:
    """Answers always the same, and remembers what it was asked and told."""

    facts: FormFacts = field(default_factory=loan_facts)
    access: Any = "public"
    answer: Answer | Refused | Busy | Exception = ANSWER
    seconds: float = 0.0
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    told: list[Verdict] = field(default_factory=list)
    tells: Told = "kept"

    async def form(self, model: str) -> OpenForm | None:
        return OpenForm(self.access, self.facts) if model == self.facts.model else None

    def key_opens(self, key: str, model: str) -> bool:
        return key == "ponte_right"

    def wait(self, address: str, key: str | None) -> float:
        return self.seconds

    async def ask(self, model: str, instance: Mapping[str, Any]) -> Answer | Refused | Busy:
        self.asked.append(instance)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def tell(self, said: Verdict) -> Told:
        self.told.append(said)
        return self.tells


def sample_app(service: SampleService) -> FastAPI:
    """Return an application with nothing but the form."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(router(service))
    return app


def with_card(facts: FormFacts, card: str) -> FormFacts:
    """Return the facts with other words."""
    return replace(facts, words=read_card(card))
