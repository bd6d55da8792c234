"""`./ponte`: from any folder, quick, and whatever goes wrong in one clear message."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer
from tests.door import ponte, unread

from ponte.cli.app import Door, app
from ponte.errors import PonteError
from ponte.local import stack

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "ponte"
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program with nothing of this process's environment but the PATH."""
    variables = {"PATH": os.environ["PATH"], "HOME": str(cwd), **environment}
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=60)


# ---------------------------------------------------------------- the script


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository in a folder with a space, with a Python and a make that write down how they are called."""
    root = tmp_path / "a checkout"
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / "ponte").write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    (root / "ponte").chmod(0o755)
    (root / "requirements.txt").touch()
    os.utime(root / "requirements.txt", (1, 1))
    (root / ".venv" / ".ready").touch()
    programs = tmp_path / "programs"
    programs.mkdir()
    say_python = '#!/bin/sh\nprintf "%s\\n" "$PYTHONPATH" "$PWD" "$@"\nexit 7\n'
    (programs / "the-python").write_text(say_python, encoding="utf-8")
    make = f'#!/bin/sh\necho "make|$*"\nln -sf "{programs}/the-python" "{root}/.venv/bin/python"\n'
    (programs / "make").write_text(make, encoding="utf-8")
    for program in programs.iterdir():
        program.chmod(0o755)
    (root / ".venv" / "bin" / "python").symlink_to(programs / "the-python")
    return root


def call(script: Path, *words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    programs = next(folder for folder in (cwd / "programs", *cwd.glob("../programs")) if folder.exists())
    return run(script, *words, cwd=cwd, **{"PATH": f"{programs}:{os.environ['PATH']}", **environment})


@pytest.mark.parametrize("links", [0, 1, 2])
def test_the_script_works_from_any_folder_and_by_symbolic_links(checkout: Path, tmp_path: Path, links: int) -> None:
    script = checkout / "ponte"
    if links > 0:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "ponte").symlink_to(script)
        script = tmp_path / "bin" / "ponte"
    if links > 1:
        (tmp_path / "p").symlink_to(Path("bin") / "ponte")
        script = tmp_path / "p"
    done = call(script, "psql", "-c", "two words", cwd=tmp_path)
    expected = [f"{checkout}/plugins", str(tmp_path), "-P", "-m", "ponte.cli", "psql", "-c", "two words"]
    assert (done.stdout.splitlines(), done.stderr) == (expected, "")
    assert done.returncode == 7, "the status is that of the command"


@pytest.mark.parametrize(
    ("state", "word", "variables", "makes"),
    [
        ("ready", "status", {}, False),
        ("no .venv", "status", {}, True),
        ("older", "status", {}, True),
        ("older", "down", {}, False),  # what runs has these packages loaded
        ("no .venv", "down", {}, True),
        ("older", "", {"_PONTE_COMPLETE": "complete_bash"}, False),
    ],
)
def test_packages_are_installed_when_they_are_missing_or_older_than_the_lock(
    checkout: Path, state: str, word: str, variables: dict[str, str], makes: bool
) -> None:
    if state == "no .venv":
        (checkout / ".venv" / "bin" / "python").unlink()
        (checkout / ".venv" / ".ready").unlink()
    if state == "older":
        os.utime(checkout / ".venv" / ".ready", (0, 0))
    done = call(checkout / "ponte", *filter(None, [word]), cwd=checkout.parent, **variables)
    assert done.returncode == 7
    assert done.stderr == (f"make|-s --no-print-directory -C {checkout} .venv/.ready\n" if makes else "")
    assert "make|" not in done.stdout, "a script reads the output"


@pytest.mark.parametrize(("given", "told"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_threads_that_wait_sleep_unless_somebody_says_otherwise(
    checkout: Path, given: dict[str, str], told: str
) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.write_text('#!/bin/sh\nprintf "%s" "$OMP_WAIT_POLICY"\n', encoding="utf-8")
    python.chmod(0o755)
    assert call(checkout / "ponte", "check", cwd=checkout.parent, **given).stdout == told


def test_a_shell_that_completes_waits_for_no_installation(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".venv" / "bin" / "python").unlink()
    done = call(checkout / "ponte", cwd=tmp_path, _PONTE_COMPLETE="complete_bash")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_real_script_answers_from_a_folder_whose_files_have_the_names_of_modules(tmp_path: Path) -> None:
    assert os.access(SCRIPT, os.X_OK)
    for name in ("typer", "rich", "json", "ponte"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken for a module')", encoding="utf-8")
    home = str(tmp_path / "home")
    done = run(sys.executable, "-P", "-m", "ponte.cli", "status", cwd=tmp_path, PYTHONPATH=f"{ROOT}/plugins")
    assert done.returncode == 3, done.stderr
    if not (ROOT / ".venv" / ".ready").exists():
        pytest.skip("the tests run in another environment than .venv")
    done = run(SCRIPT, "status", "--json", cwd=tmp_path, PONTE_HOME=home)
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["components"][0]["log"].startswith(home)


# ---------------------------------------------------------------- help


def test_the_help_loads_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from ponte.cli.app import app\n"
        "try:\n    app(['--help'], prog_name='ponte')\n"
        "finally:\n    print(sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)\n"
    )
    done = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=f"{ROOT}/plugins")
    assert done.returncode == 0
    loaded = set(re.findall(r"'(\w+)'", done.stderr))
    assert {"typer", "ponte"} <= loaded
    assert not loaded & {
        "sqlalchemy",
        "pydantic",
        "psutil",
        "pandas",
        "numpy",
        "sklearn",
        "psycopg2",
        "httpx",
        "airflow",
    }


def test_the_help_fits_a_screen_and_no_line_of_it_is_cut(tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "ponte.cli", cwd=tmp_path, PYTHONPATH=f"{ROOT}/plugins", COLUMNS="80")
    full = run(sys.executable, "-m", "ponte.cli", "--help", cwd=tmp_path, PYTHONPATH=f"{ROOT}/plugins", COLUMNS="80")
    assert full.stdout == done.stderr + done.stdout, "without a command it is shown too"
    lines = full.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    for name in COMMANDS:
        [line] = [line for line in lines if line.split()[:1] == [name]]
        assert line.endswith(".") and not line.endswith(".."), line  # noqa: PT018 - cut ones end with dots


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_says_what_it_does_and_what_each_argument_means(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ponte(name, "--help") == 0
    assert "Usage: ponte " in capsys.readouterr().out
    assert not [parameter.name for parameter in COMMANDS[name].params if not getattr(parameter, "help", "")]


# ---------------------------------------------------------------- what goes wrong


def test_an_unknown_command_is_answered_with_the_one_that_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert ponte("stauts") == 2
    assert "Did you mean 'status'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (PonteError("no", where="here", fix="do that"), 1, "\nno\n  where: here\n  next: do that\n"),
        (
            sa.exc.OperationalError("SELECT 'secret'", {}, Exception("it is down")),
            1,
            "\nthe database refused: it is down\n",
        ),
        (KeyboardInterrupt(), 130, "\nInterrupted. Give the same command again: it goes on, or begins anew.\n"),
    ],
)
def test_an_error_that_is_raised_on_purpose_is_told_in_one_message(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(stack, "down", fail)
    assert ponte("down") == status
    assert capsys.readouterr() == ("", said)


def test_an_error_that_nobody_foresaw_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "down", lambda _: {}["a mistake"])
    with pytest.raises(KeyError, match="a mistake"):
        app(["down"], prog_name="ponte")


def test_every_command_ends_so() -> None:
    assert isinstance(typer.main.get_command(app), Door)


@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [(("--help",), ""), (("--help",), "1"), (("down",), ""), (("down",), "1"), (("status",), ""), (("status",), "1")],
)
def test_a_command_ends_in_silence_when_nobody_reads_what_it_prints(
    words: tuple[str, ...], unbuffered: str, tmp_path: Path
) -> None:
    assert unread(*words, PONTE_HOME=str(tmp_path), PYTHONUNBUFFERED=unbuffered) == (141, "")


# ---------------------------------------------------------------- colour


def on_a_terminal(tmp_path: Path, *words: str, **environment: str) -> str:
    """Return what a command prints where its output is a terminal."""
    ours, theirs = pty.openpty()
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}/plugins", "TERM": "xterm", **environment}
    variables["PONTE_HOME"] = str(tmp_path)
    subprocess.run(
        [sys.executable, "-m", "ponte.cli", *words], stdout=theirs, stderr=theirs, env=variables, check=False
    )
    os.close(theirs)
    said = b""
    try:
        while more := os.read(ours, 1 << 16):
            said += more
    except OSError:  # so Linux says that nobody writes any more
        pass
    os.close(ours)
    return said.decode()


@pytest.mark.parametrize("words", [("status",), ("password",)])
def test_colour_is_for_terminals_and_not_where_it_is_unwanted(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "\x1b[" in on_a_terminal(tmp_path, *words)
    assert "\x1b" not in on_a_terminal(tmp_path, *words, NO_COLOR="1")
    monkeypatch.setenv("PONTE_HOME", str(tmp_path))
    ponte(*words)
    assert "\x1b" not in "".join(capsys.readouterr())
