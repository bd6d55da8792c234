"""The reference of `ponte.notebook` is what its docstrings say."""

from __future__ import annotations

from tests.docs.notebook_reference import PAGE, page


def test_the_reference_is_what_the_docstrings_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.docs.notebook_reference writes it anew"
