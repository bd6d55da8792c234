"""Health of this container: status 0 if each argument is well.

`:port/path` answers over HTTP, `celery` answers to a ping through the broker, `stream` has told lately what it did, any
other is the type of an Airflow job with a recent heartbeat. Airflow's own commands for that import all of Airflow:
seconds of a core, six times a minute.
"""

# ruff: noqa: INP001 - a script of the image

import json
import os
import socket
import sys
from urllib.request import ProxyHandler, build_opener

JOB = """SELECT count(*) FROM job WHERE job_type = %s AND hostname = %s AND state = 'running'
         AND latest_heartbeat > now() - interval '1 minute'"""

# Each worker tells every five seconds, and after a take; it has nothing to tell while no queue is open.
STREAM = """SELECT CASE WHEN EXISTS (SELECT FROM ponte.queue WHERE open) THEN (
             SELECT count(*) FROM ponte.stream_progress
             WHERE split_part(worker, ':', 1) = %s AND at > now() - interval '2 minutes') ELSE 1 END"""


def healthy(what: str) -> bool:
    """Say whether `what` is well; many ways of being unwell raise an exception instead."""
    if what.startswith(":"):
        # Not by a proxy that the environment may name. Airflow answers with 200 even when its database is down.
        with build_opener(ProxyHandler({})).open(f"http://localhost{what}", timeout=8) as answer:
            report = json.load(answer) if answer.headers.get_content_type() == "application/json" else {}
            return report.get("metadatabase", {}).get("status", "healthy") == "healthy"
    if what == "celery":
        from celery import Celery

        app = Celery(broker=os.environ["AIRFLOW__CELERY__BROKER_URL"])
        return bool(app.control.ping([f"celery@{socket.gethostname()}"], timeout=5))
    import psycopg2

    if what == "stream":
        found = json.loads(os.environ["AIRFLOW_CONN_PONTE_STREAM"])
        place = {"host": found["host"], "port": found["port"], "dbname": found["schema"]}
        login = {"user": found["login"], "password": found["password"]}
        with psycopg2.connect(**place, **login, connect_timeout=5) as connection, connection.cursor() as cursor:
            cursor.execute(STREAM, (socket.gethostname(),))
            return bool(cursor.fetchone()[0])
    url = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
    with psycopg2.connect(url, connect_timeout=5) as connection, connection.cursor() as cursor:
        cursor.execute(JOB, (what, socket.gethostname()))
        return bool(cursor.fetchone()[0])


sys.exit(not all(healthy(what) for what in sys.argv[1:]))
