"""The page about `./ponte` says what its help says, and every command that a page or a message names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from tests.docs.test_docs import NOW, REFERENCE, ROOT, read, section, table

from ponte.cli.app import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PAGE = read(REFERENCE / "cli.md")
#: A command somewhere in a text, up to the end of the code or the line: "./ponte psql -c", "ops ponte backup --verify".
NAMED = re.compile(r"(?:\./|\bops )ponte ([a-z]\w*)([^`;)\n]*)")


def arguments(name: str) -> set[str]:
    """Return the options of a command, and what its help calls its other arguments."""
    found = set()
    group = getattr(COMMANDS[name], "commands", {}).values()
    for parameter in [*COMMANDS[name].params, *(one for command in group for one in command.params)]:
        if parameter.param_type_name == "option":
            found |= {option for option in parameter.opts if option.startswith("--")}
        else:
            found.add(re.sub(r"[][.]", "", parameter.metavar or parameter.name).upper())
    return found


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_a_section_with_every_argument(name: str) -> None:
    text = section(PAGE, f"## `./ponte {name}`")
    documented = set(table(text)) if arguments(name) else set()
    assert documented == arguments(name)
    assert f"| [`{name}`](#ponte-{name}) |" in PAGE


def test_every_section_is_about_a_command() -> None:
    assert set(re.findall(r"^## `\./ponte (\w+)`", PAGE, re.MULTILINE)) == set(COMMANDS)


def test_every_command_and_option_that_a_page_or_a_message_names_is_there() -> None:
    sources = [*NOW, *(ROOT / "plugins").rglob("*.py"), *(ROOT / "docker").iterdir(), ROOT / "Makefile"]
    sources += [ROOT / "docker-compose.yaml", ROOT / ".env.example"]
    named = [(path, *found) for path in sources for found in NAMED.findall(read(path))]
    assert {"up", "psql", "backup"} <= {name for _, name, _ in named}
    wrong = [
        (path.relative_to(ROOT).as_posix(), name, option)
        for path, name, rest in named
        for option in ([""] if name not in COMMANDS else re.findall(r"(?<= )--[a-z0-9-]+", rest))
        if not (name in COMMANDS and option in arguments(name) | {"--help"})
    ]
    assert not wrong


def test_no_page_names_a_command_line_that_there_was() -> None:
    """Records of decisions may: they tell why. Whoever reads `python -m ponte.…` elsewhere would look for it."""
    files = [
        *(page for page in NOW if page.parent.name != "adr"),
        *(ROOT / "plugins").rglob("*.py"),
        ROOT / "docker-compose.yaml",
        ROOT / ".env.example",
    ]
    assert not [path for path in files if re.search(r"python -m ponte\.(?!cli\b)", read(path))]
    assert [path.parent.name for path in (ROOT / "plugins" / "ponte").rglob("__main__.py")] == ["cli"]


def test_each_name_of_a_file_that_the_script_needs_is_that_of_the_makefile() -> None:
    for name in (".venv/.ready", "requirements.txt"):
        assert name in read(ROOT / "ponte")
    assert re.search(r"^\$\(VENV\)/\.ready: requirements\.txt$", read(ROOT / "Makefile"), re.MULTILINE)
    assert Path(ROOT / "docker" / "ponte").stat().st_mode & 0o111, "the image links it into the PATH"
