"""Airflow's REST API, as far as commands, the demo and the end-to-end test drive it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from ponte.errors import PonteError

FINISHED = frozenset({"success", "failed"})
ENDED = FINISHED | {"skipped", "upstream_failed", "removed"}
#: Airflow's scheduler may need a moment; a client must not give up on the first slow answer.
TIMEOUT_SECONDS = 60.0


class AirflowApi:
    """A logged-in client of one Airflow. Methods return the API's JSON as it is."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def call(self, method: str, path: str, *, accept: frozenset[int] = frozenset(), **options: Any) -> Any:
        """Return the JSON of `/api/v2<path>`; raises PonteError for a status of 400 or more that is not in `accept`."""
        answer = self._client.request(method, f"/api/v2{path}", **options)
        if answer.is_error and answer.status_code not in accept:
            got = f"{answer.status_code} {answer.text[:500]}"
            raise PonteError("Airflow refused a request", where=f"{method} {path}", got=got)
        return answer.json() if answer.content else None

    def page(self, path: str) -> httpx.Response:
        """Return a page that a plugin serves, outside `/api/v2`; raises PonteError when it is refused."""
        answer = self._client.get(path)
        if answer.is_error:
            raise PonteError("Airflow refused a page", where=path, got=f"{answer.status_code} {answer.text[:500]}")
        return answer

    def wait_for_dag(self, dag_id: str, *, seconds: float = 180) -> None:
        """Wait until Airflow has read the DAG, then let it run (unpause it)."""
        deadline = time.monotonic() + seconds
        while "detail" in (found := self.call("GET", f"/dags/{dag_id}", accept=frozenset({404}))):
            errors = self.call("GET", "/importErrors")["import_errors"]
            if errors or time.monotonic() > deadline:
                got = "; ".join(f"{e['filename']}: {e['stack_trace']}" for e in errors)
                fix = "see `./ponte status` for the dag-processor's log"
                raise PonteError(
                    f"Airflow did not find the DAG {dag_id} (waited up to {seconds:.0f} s)", got=got, fix=fix
                )
            time.sleep(1)
        if found["is_paused"]:
            self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def pool(self, name: str, *, slots: int, description: str) -> None:
        """Let there be a pool of that size: make it, or change its size; does nothing when it is so already."""
        found = self.call("GET", f"/pools/{name}", accept=frozenset({404}))
        if "detail" in found:
            self.call("POST", "/pools", json={"name": name, "slots": slots, "description": description})
        elif found["slots"] != slots:
            # The mask says what changes; Airflow wants the rest of the pool all the same.
            body = {"pool": name, "slots": slots, "include_deferred": found["include_deferred"]}
            self.call("PATCH", f"/pools/{name}", params={"update_mask": "slots"}, json=body)

    def run(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> dict[str, Any]:
        """Return the run of that id: the one there is, or a new one. A failed one is cleared, so that it runs again."""
        path = f"/dags/{dag_id}/dagRuns"
        found: dict[str, Any] = self.call("GET", f"{path}/{run_id}", accept=frozenset({404}))
        if "detail" in found:
            body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
            return dict(self.call("POST", path, json=body))
        if found["state"] == "failed":
            self.call("POST", f"{path}/{run_id}/clear", json={"dry_run": False, "only_failed": False})
        return found

    def backfill(self, dag_id: str, *, first: str, last: str, max_active_runs: int) -> None:
        """Let Airflow run the DAG for every data interval that begins from `first` to `last` and has no good run yet.

        Does nothing when another backfill of the DAG is under way.
        """
        body = {
            "dag_id": dag_id,
            "from_date": first,
            "to_date": last,
            "reprocess_behavior": "failed",
            "max_active_runs": max_active_runs,
        }
        answer = self.call("POST", "/backfills", json=body, accept=frozenset({409}))
        if "detail" in answer and "running backfill" not in str(answer["detail"]):
            raise PonteError("Airflow refused the backfill", where=f"DAG {dag_id}", got=str(answer["detail"]))

    def runs(self, dag_id: str, **filters: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG, oldest interval first."""
        params = {"order_by": "logical_date", "limit": "100", **filters}
        return list(self.call("GET", f"/dags/{dag_id}/dagRuns", params=params)["dag_runs"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        return list(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"])

    def wait_for_run(
        self, dag_id: str, run_id: str, *, seconds: float, on_task: Callable[[dict[str, Any]], None]
    ) -> str:
        """Return the final state of a run; calls `on_task` once for each task instance that has ended."""
        deadline, seen = time.monotonic() + seconds, set[str]()
        while True:
            # The state is asked first: once it is final, the tasks that follow are all there is to tell.
            state: str = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
            for task in sorted(self.tasks(dag_id, run_id), key=lambda t: t["end_date"] or ""):
                if task["state"] in ENDED and task["id"] not in seen:
                    seen.add(task["id"])
                    on_task(task)
            if state in FINISHED:
                return state
            if time.monotonic() > deadline:
                raise PonteError(f"the run is {state} after {seconds:.0f} s", where=f"DAG {dag_id}, run {run_id}")
            time.sleep(1)

    def follow(self, dag_id: str, run_id: str, *, seconds: float, fix: str) -> None:
        """Print the tasks of a run as they end; raises PonteError, with the logs and `fix`, when the run failed."""

        def tell(task: dict[str, Any]) -> None:
            shard = f" [{task['rendered_map_index']}]" if task.get("rendered_map_index") else ""
            print(f"    {task['state']:<8} {task['task_id']}{shard}  {task['duration'] or 0:.1f} s", flush=True)

        if self.wait_for_run(dag_id, run_id, seconds=seconds, on_task=tell) != "success":
            failed = [t for t in self.tasks(dag_id, run_id) if t["state"] == "failed"]
            logs = "\n".join(f"--- log of {t['task_id']}\n{self.log_tail(dag_id, run_id, t)}" for t in failed)
            raise PonteError(f"a run failed\n{logs}", where=f"DAG {dag_id}, run {run_id}", fix=fix)

    def log_tail(self, dag_id: str, run_id: str, task: dict[str, Any], lines: int = 25) -> str:
        """Return the end of the log of a task's last try, as text, with the exceptions that ended it."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task['task_id']}/logs/{max(1, task['try_number'])}"
        found = self.call("GET", path, params={"map_index": task["map_index"]}, headers={"Accept": "application/json"})
        texts = []
        for entry in found["content"]:
            texts.append(str(entry["event"]))
            texts += [f"{e['exc_type']}: {e['exc_value']}" for e in entry.get("error_detail") or ()]
        return "\n".join(texts[-lines:])


@contextmanager
def connect(url: str, *, user: str, password: str) -> Iterator[AirflowApi]:
    """Yield a client that is logged in to the Airflow at `url`."""
    # Nothing between this machine and itself: a proxy of the environment must not see the password.
    with httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
        try:
            answer = client.post("/auth/token", json={"username": user, "password": password})
        except httpx.TransportError as error:
            raise PonteError("Airflow does not answer", where=url, got=str(error), fix="./ponte up") from error
        if answer.is_error:
            raise PonteError("Airflow refused the login", where=url, got=f"{answer.status_code} {answer.text[:200]}")
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield AirflowApi(client)
