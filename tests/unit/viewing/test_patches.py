"""What changed between two folders, line by line."""

from __future__ import annotations

import pytest

from ponte.viewing.patches import LARGEST, MOST_COMPARED, MOST_SHOWN, patches


def test_a_patch_has_what_is_gone_what_is_new_and_three_lines_around() -> None:
    old = {"a.sql": "\n".join("123456789"), "same": "x", "left": "1", "neither": None}
    new = {"a.sql": "\n".join("1234X6789"), "same": "x", "come": "1", "neither": None}
    changed, left, come = patches(old, new)
    assert changed.lines == (
        ("place", "@@ -2,7 +2,7 @@"),
        ("same", " 2"), ("same", " 3"), ("same", " 4"), ("gone", "-5"), ("added", "+X"), ("same", " 6"), ("same", " 7"),
        ("same", " 8"),
    )  # fmt: skip
    assert (changed.file, changed.cut, changed.why) == ("a.sql", False, "")
    assert [(patch.file, patch.lines, patch.cut) for patch in (left, come)] == [
        (n, (), False) for n in ("left", "come")
    ]
    assert left.why == come.why == "kept of one of the two versions only"


@pytest.mark.parametrize(
    ("old", "new", "shown", "cut"),
    [
        ("", "y\n" * (MOST_SHOWN - 1), MOST_SHOWN, False),  # with the line that says where
        ("", "y\n" * MOST_SHOWN, MOST_SHOWN, True),
        ("x\n" * MOST_COMPARED, "x\n" * (MOST_COMPARED - 1), 5, False),
        (f"{'x' * 999}\n" * (LARGEST // 1_000) + "y", f"{'x' * 999}\n" * (LARGEST // 1_000) + "z", 0, True),
        ("x\n" * MOST_COMPARED + "z\n", "x\n" * (MOST_COMPARED - 1), 5, True),
    ],
)
def test_a_patch_says_whether_it_is_all(old: str, new: str, shown: int, cut: bool) -> None:
    [patch] = patches({"f": old}, {"f": new})
    assert (len(patch.lines), patch.cut) == (shown, cut)
