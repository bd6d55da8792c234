"""The table of what `tests.bench.serving` has measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tabulate import tabulate

#: Models that both ways answer for, in the order of the table.
COMPARED = ("logistic", "trees")
#: Of the closed loop.
CONNECTIONS = 64

Figures = dict[str, Any]


def report(figures: Figures) -> str:
    """Return the tables of what was measured."""
    rows = [row for part in ROWS if part in figures for row in ROWS[part](figures[part])]
    headers = ["figure", "Flask + gunicorn, 2 workers", "Ponte, 1 process", "goal"]
    table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    return f"logistic / boosted trees, load {figures['load_average']:.1f} before, {figures['cores']} cores\n\n{table}"


def pair(found: Figures, form: str) -> str:
    """Return a figure of both models."""
    return " / ".join(form.format(**found[model]) for model in COMPARED)


def _closed(found: Figures) -> list[list[str]]:
    flask, ponte = found["flask"], found["ponte"]
    times = " / ".join(f"{ponte[m]['per_second'] / flask[m]['per_second']:.1f} ×" for m in COMPARED)
    less = " / ".join(f"1/{flask[m]['cpu_ms'] / ponte[m]['cpu_ms']:.1f}" for m in COMPARED)
    many = f"requests per second at {CONNECTIONS} connections"
    return [
        [many, pair(flask, "{per_second:,.0f}"), f"{pair(ponte, '{per_second:,.0f}')} ({times})", "≥ 12 ×"],
        ["CPU per request there, ms", pair(flask, "{cpu_ms:.2f}"), f"{pair(ponte, '{cpu_ms:.3f}')} ({less})", "≤ 1/18"],
        ["p99 there, ms", pair(flask, "{p99_many:.0f}"), pair(ponte, "{p99_many:.0f}"), ""],
        *([["one connection, p50 & p99, ms", *(pair(w, "{p50:.2f} & {p99:.2f}") for w in (flask, ponte)), "< 1 & 2"]]),
        ["errors", pair(flask, "{errors}"), pair(ponte, "{errors}"), "0"],
    ]


def _open(found: Figures) -> list[list[str]]:
    ways = (found["flask"], found["ponte"])
    return [
        ["open loop 200/s, p50 & p99, ms", *(pair(w, "{p50_200:.2f} & {p99_200:.2f}") for w in ways), "< 3 & 6"],
        ["CPU per request there, ms", *(pair(w, "{cpu_ms_200:.2f}") for w in ways), ""],
        ["open loop 1,000/s, p50 & p99, ms", "cannot", pair(ways[1], "{p50_1000:.2f} & {p99_1000:.2f}"), "p99 < 10"],
        ["generator late there, p99, ms", "", pair(ways[1], "{late_p99_1000:.2f}"), ""],
        ["errors", *(pair(w, "{errors}") for w in ways), "0"],
    ]


def _swap(found: Figures) -> list[list[str]]:
    return [
        [
            "p99 within 2 s of a change & in quiet times, ms",
            "",
            pair(found, "{p99_change:.2f} & {p99_quiet:.2f}"),
            "< 2 ×",
        ],
        ["changes, requests, errors", "", pair(found, "{changes}, {asked:,}, {errors}"), "0 errors"],
    ]


def _kept(found: Figures) -> list[list[str]]:
    with_without = "{cpu_ms_kept:.3f} & {cpu_ms_unkept:.3f} ({share:+.1%})".format(**found)
    return [
        ["CPU per request with & without keeping it, ms (logistic)", "", with_without, "< 10 %"],
        ["CPU of PostgreSQL for a row that is kept, ms", "", f"{found['cpu_ms_postgres']:.3f}", ""],
    ]


def _memory(found: Figures) -> list[list[str]]:
    return [["memory with three models, MiB", "", f"{found['rss_mib']:.0f}", "< 500"]]


def _storm(found: Figures) -> list[list[str]]:
    answered, kept = sum(found["answered"].values()), sum(found["kept"].values())
    same = "equal" if answered == kept + found["dropped"] and found["dropped"] == found["said_dropped"] else "NOT EQUAL"
    return [
        [
            "a minute at 200/s: asked, errors",
            "",
            f"{found['asked']:,}, {found['errors']} {found['why'] or ''}",
            "0 errors",
        ],
        ["answered = kept + dropped", "", f"{answered:,} = {kept:,} + {found['dropped']:.0f}: {same}", "equal"],
        ["versions answered; kept", "", f"{found['answered']}; {found['kept']}", "1, 2, 1"],
        ["seconds until promotion and rollback are seen", "", str(list(found["seconds_until"].values())), "< 2"],
        [
            "database away, s; p99 & longest, ms",
            "",
            "{seconds_database_away}; {p99:.1f} & {most:.0f}".format(**found),
            "",
        ],
    ]


ROWS: dict[str, Callable[[Figures], list[list[str]]]] = {
    "closed": _closed, "open": _open, "swap": _swap, "kept": _kept, "memory": _memory, "storm": _storm,
}  # fmt: skip
