"""Send what is unsent: at least once by each channel, each time under the same id."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import sqlalchemy as sa

from ponte.errors import PonteError
from ponte.notices.messages import Message, Notice, message
from ponte.storage.database import Database, insert_row
from ponte.storage.withholding import said_of

log = logging.getLogger(__name__)

#: Takes a message, or raises.
Channel = Callable[[Message], None]

_COLUMNS = ", ".join(f"n.{name}" for name in Notice.__dataclass_fields__)
# What is older was written before the channel was configured, or has failed for long: nobody wants it now.
_UNSENT = sa.text(f"""SELECT {_COLUMNS} FROM ponte.notice n
    WHERE NOT EXISTS (SELECT FROM ponte.notice_sent s WHERE s.notice_id = n.notice_id AND s.channel = :channel)
    AND n.created_at > now() - interval '7 days'
    ORDER BY n.notice_id""")
# Two that send at once would send twice: the second leaves it to the first.
_LOCK = sa.text("SELECT pg_try_advisory_xact_lock(hashtext('ponte.notice'), hashtext(:channel))")


def send_unsent(db: Database, channels: Mapping[str, Channel], *, base_url: str) -> dict[str, int]:
    """Return how many notices each channel has taken now, by its name.

    A notice is marked after the channel took it: a sender that is killed in between sends it again, with the same id.
    A channel that fails stops at that notice and holds up no other channel. Raises PonteError at the end when one has
    failed; the next sender goes on from there. Notices older than a week are not sent any more.
    """
    sent: dict[str, int] = {}
    failed: dict[str, str] = {}
    for name, take in channels.items():
        try:
            sent[name] = _send(db, name, take, base_url)
        except sa.exc.SQLAlchemyError:
            raise
        except Exception as error:  # noqa: BLE001 - other channels go on, and it is raised below
            failed[name] = said_of(error)
    if failed:
        got = "; ".join(f"{name}: {said}" for name, said in failed.items())
        fix = "look at the channel's Airflow connection and PONTE_NOTIFIERS; ponte__tell tries again within the hour"
        raise PonteError("a channel did not take a notice", where="PONTE_NOTIFIERS", got=got, fix=fix)
    return sent


def _send(db: Database, channel: str, take: Channel, base_url: str) -> int:
    with db.begin() as holder:
        if not holder.execute(_LOCK, {"channel": channel}).scalar_one():
            log.info("%s: somebody else is sending", channel)
            return 0
        rows = holder.execute(_UNSENT, {"channel": channel}).mappings().all()
        for row in rows:
            notice = Notice(**row)
            take(message(notice, base_url=base_url))
            with db.begin() as connection:  # each by itself: what was sent stays marked, whatever comes after
                sent = {"notice_id": notice.notice_id, "channel": channel}
                insert_row(connection, "ponte.notice_sent", sent, unless="notice_id, channel")
    return len(rows)
