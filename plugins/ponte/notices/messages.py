"""A notice as people read it: what, where, since when, what next, and a link. No content of rows is in it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote

_TITLES = {
    "batch_rejected": "batch rejected",
    "guard_tripped": "a guard has tripped",
    "version_refused": "the gate refused a version",
    "question_waiting": "a question waits for an answer",
    "alarm_opened": "alarm",
    "alarm_closed": "alarm closed",
    "window_late": "a window is late",
    "live_astray": "live rows lie in no month",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """A row of `ponte.notice`."""

    notice_id: int
    event: str
    subject: str
    model: str
    window_start: dt.date | None
    batch_id: int | None
    version: int | None
    facts: Mapping[str, Any]
    created_at: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What is sent. `id` is the same however often it is sent."""

    id: str
    title: str
    lines: tuple[tuple[str, str], ...]
    link: str

    @property
    def text(self) -> str:
        """Plain text."""
        return "\n".join([self.title, *(f"{name}: {said}" for name, said in self.lines), self.link, f"({self.id})"])

    @property
    def html(self) -> str:
        """For a mail."""
        rows = "".join(f"<tr><td><b>{escape(name)}</b></td><td>{escape(said)}</td></tr>" for name, said in self.lines)
        link = escape(self.link, quote=True)
        return f'<p>{escape(self.title)}</p><table>{rows}</table><p><a href="{link}">{link}</a></p><p>{self.id}</p>'

    def as_json(self) -> dict[str, Any]:
        """For a webhook."""
        return {"id": self.id, "title": self.title, **dict(self.lines), "link": self.link}


def message(notice: Notice, *, base_url: str) -> Message:
    """Return what people read of a notice.

    base_url : where the UI is, `https://airflow.example`.
    """
    where = [
        f"model {notice.model}",
        f"window {notice.window_start}" if notice.window_start else "",
        f"batch {notice.batch_id}" if notice.batch_id else "",
        f"version {notice.version}" if notice.version else "",
    ]
    since = notice.facts.get("since") or notice.created_at.astimezone(dt.UTC).isoformat(timespec="seconds")
    lines = {
        "what": str(notice.facts["what"]),
        "where": ", ".join(part for part in where if part),
        "since": str(since),
        "next": str(notice.facts["next"]),
    }
    return Message(
        id=f"ponte-notice-{notice.notice_id}",
        title=f"[Ponte {notice.notice_id}] {notice.model}: {_TITLES[notice.event]}",
        lines=tuple(lines.items()),
        link=base_url.rstrip("/") + _page(notice),
    )


def _page(notice: Notice) -> str:
    """Return the page below the UI's host where it can be looked at."""
    model = quote(notice.model, safe="")
    if notice.event in ("version_refused", "question_waiting"):
        return f"/ponte/report/{model}/{notice.version}"
    pipeline = "monitor" if notice.event.startswith(("alarm", "live")) else "score"
    return f"/dags/{model}__{pipeline}"
