"""A process is ours only if it is the very one that was started; stopping ends all of ours and nothing else."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from ponte.local import processes
from ponte.local.secrets import write_private_json
from ponte.local.settings import Settings

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, home=tmp_path / "home", stop_timeout=1)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", SLEEP]) as process:
        yield process
        process.kill()


@contextmanager
def launch(settings: Settings, component: str, code: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start `code` the way a component is started, with its record; kill it afterwards."""
    environment = {**os.environ, **processes.marks(settings, component)}
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, env=environment)
    created = psutil.Process(process.pid).create_time()
    write_private_json(processes.record_file(settings, component), {"pid": process.pid, "created": created})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_recycled_pid_is_neither_found_nor_killed(settings: Settings, stranger: subprocess.Popen[bytes]) -> None:
    created = psutil.Process(stranger.pid).create_time() - 3600
    write_private_json(processes.record_file(settings, "scheduler"), {"pid": stranger.pid, "created": created})
    assert processes.find(settings, "scheduler") is None
    processes.stop(settings)
    assert stranger.poll() is None, "the stranger lives"
    assert not processes.record_file(settings, "scheduler").exists()


def test_a_component_is_found_although_the_clock_was_set(settings: Settings) -> None:
    with launch(settings, "scheduler", SLEEP) as process:
        record = {"pid": process.pid, "created": psutil.Process(process.pid).create_time() - 3600}
        write_private_json(processes.record_file(settings, "scheduler"), record)
        found = processes.find(settings, "scheduler")
        assert found is not None
        assert found.pid == process.pid


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', '{"pid": 999999999, "created": 1}'])
def test_a_damaged_record_means_not_running(settings: Settings, content: str) -> None:
    path = processes.record_file(settings, "triggerer")
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    assert processes.find(settings, "triggerer") is None


def test_stop_ends_what_left_the_session_and_lost_its_parent(settings: Settings, tmp_path: Path) -> None:
    """As tasks do whose scheduler was killed: only the marks lead to them."""
    pid_file = tmp_path / "pid"
    code = (
        "import subprocess, sys, pathlib\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))\n"
    )
    with launch(settings, "scheduler", code) as process:
        process.wait(30)
    orphan = psutil.Process(int(pid_file.read_text(encoding="utf-8")))
    assert [member.pid for member in processes.members(settings)] == [orphan.pid]
    processes.stop(settings)
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_a_process_that_renames_itself_is_still_found(settings: Settings, tmp_path: Path) -> None:
    """Airflow's processes do; without SPT_NOENV a long title overwrites the marks."""
    ready = tmp_path / "ready"
    code = (
        "import time, pathlib, setproctitle\n"
        "setproctitle.setproctitle('airflow worker -- LocalExecutor: ' + 'x' * 2000)\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)"
    )
    with launch(settings, "scheduler", code) as process:
        while not ready.exists():
            time.sleep(0.01)
        processes.record_file(settings, "scheduler").unlink()
        assert [member.pid for member in processes.members(settings)] == [process.pid]
        processes.stop(settings)


def test_what_ignores_sigterm_is_killed_and_reported(settings: Settings, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import signal, time, pathlib\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)"
    )
    with launch(settings, "triggerer", code) as process:
        while not ready.exists():
            time.sleep(0.01)
        assert processes.stop(settings, ["triggerer"]) == ["triggerer"]
        assert process.wait(5) == -9


def test_another_stack_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    other = Settings(root=tmp_path, home=tmp_path / "other", stop_timeout=1)
    with launch(other, "scheduler", SLEEP) as process:
        processes.stop(settings)
        assert process.poll() is None
        assert processes.stop(other) == []


def test_a_task_that_ignores_sigterm_is_killed_before_its_supervisor(settings: Settings, tmp_path: Path) -> None:
    """So that the supervisor can still record how the task ended."""
    ready, ended = tmp_path / "ready", tmp_path / "ended"
    code = (
        "import os, pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "task = os.fork()\n"
        "if task == 0:\n"
        "    os.setpgid(0, 0)\n"
        f"    pathlib.Path({str(ready)!r}).touch()\n"
        "    time.sleep(60)\n"
        "_, status = os.waitpid(task, 0)\n"
        f"pathlib.Path({str(ended)!r}).write_text(str(os.WTERMSIG(status)))\n"
    )
    with launch(replace(settings, stop_timeout=8), "scheduler", code) as process:
        while not ready.exists():
            time.sleep(0.01)
        assert processes.stop(replace(settings, stop_timeout=8), ["scheduler"]) == [], "the supervisor ended by itself"
        assert process.wait(5) == 0
    assert ended.read_text(encoding="utf-8") == "9"
