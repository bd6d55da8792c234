"""Ports are checked before anything starts; health means the processes that were started, not their predecessors."""

import os
import re
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ponte.errors import StackError
from ponte.local.readiness import check_ports, unhealthy
from ponte.local.settings import Settings


def report(heartbeat: float) -> dict[str, dict[str, str]]:
    """Return what Airflow reports when all its parts had a heartbeat at the moment `heartbeat`."""
    text = datetime.fromtimestamp(heartbeat, UTC).isoformat()
    parts = {
        name: {"status": "healthy", f"latest_{name}_heartbeat": text}
        for name in ("scheduler", "dag_processor", "triggerer")
    }
    return {"metadatabase": {"status": "healthy"}, **parts}


def test_a_taken_port_is_named_with_its_holder_and_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = Settings(root=tmp_path, home=tmp_path, ui_port=port)
        with pytest.raises(StackError) as refused:
            check_ports(settings, ["api-server"])
    text = str(refused.value)
    assert f"Port {port}, needed for the Airflow UI, is not free" in text
    assert f"process {os.getpid()} has it" in text
    assert re.search(r"PONTE_UI_PORT=\d+ \./ponte up", text)
    assert f"PONTE_UI_PORT={port}" not in text


def test_a_port_on_all_addresses_is_taken_by_one_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = Settings(root=tmp_path, home=tmp_path, triggerer_log_port=server.getsockname()[1])
        with pytest.raises(StackError, match="PONTE_TRIGGERER_LOG_PORT"):
            check_ports(settings, ["triggerer"])


def test_a_free_port_is_fine(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    check_ports(Settings(root=tmp_path, home=tmp_path, ui_port=port), ["api-server"])


def test_fresh_heartbeats_are_healthy() -> None:
    assert unhealthy(report(1000.0), {"scheduler": 995.0, "dag-processor": 995.0, "triggerer": 995.0}) == []


def test_the_heartbeat_of_a_predecessor_does_not_count() -> None:
    assert unhealthy(report(1000.0), {"dag-processor": 1005.0}) == ["dag_processor"]


@pytest.mark.parametrize("answer", [None, [], {}, {"metadatabase": {"status": "healthy"}}])
def test_no_answer_is_not_healthy(answer: object) -> None:
    assert "scheduler" in unhealthy(answer, {})
