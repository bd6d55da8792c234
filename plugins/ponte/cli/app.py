"""Every command in the order of the help, and how each of them ends when something is wrong.

Exit status: 0 done; 1 an error, told in one message; 2 a command that was not understood; 3 of `status`: something
does not run; 4 of `predict`: rows were rejected; 130 interrupted; 141 nobody reads any more what is printed. Commands
import what they need inside their functions, so that the help loads none of it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from ponte.cli import answers, database, exchange, loop, models, output, stack
from ponte.errors import PonteError

#: What a shell says of a program that SIGPIPE has ended: `./ponte predict … | head`.
NOBODY_READS = 141


class Door(TyperGroup):
    """Ends a command that failed with one message on stderr, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error that is raised on purpose becomes status 1, Ctrl-C becomes 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            output.complain("Interrupted. Give the same command again: it goes on, or begins anew.")
            raise typer.Exit(130) from None
        except Exception as error:
            message = _message(error)
            if message is None:
                raise
            output.complain(message)
            raise typer.Exit(1) from error


def _message(error: Exception) -> str | None:
    """Return what to tell of an error that somebody at a terminal can do something about; None for any other."""
    if isinstance(error, PonteError):
        return str(error)
    import sqlalchemy as sa

    # Only what the server says: the statement may hold what it keeps of a password.
    return f"the database refused: {error.orig}" if isinstance(error, sa.exc.DBAPIError) else None


app = typer.Typer(
    cls=Door,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain text, a command a line
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A scikit-learn model from a notebook to a table that anybody can query. COMMAND --help says more.",
)
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(stack.password)
app.command()(stack.demo)
app.command("new")(models.new)
app.command()(models.check)
app.command("try")(loop.try_)
app.command()(loop.train)
app.command()(loop.score)
app.command()(loop.versions)
app.command()(loop.compare)
app.command()(loop.judge)
app.command()(models.lock)
app.command()(answers.predict)
app.command()(answers.work)
app.command()(answers.serve)
app.add_typer(answers.keys, name="keys")
app.command("import")(exchange.import_)
app.command()(exchange.export)
# What this command does not know is for the program psql.
app.command(context_settings={"ignore_unknown_options": True})(database.psql)
app.command()(database.backup)
app.command()(database.restore)
app.command()(database.provision)
app.command()(stack.env)


def main() -> None:
    """Run the command that the program was called with, and end it; in silence when nobody reads what it prints."""
    printed = sys.stdout
    try:
        app(prog_name="ponte")
    except SystemExit as ended:
        status = ended.code
    try:
        printed.flush()
        unread = sys.stdout is not printed  # so typer ends a command that met a broken pipe, with status 1
    except BrokenPipeError:
        unread = True
    if unread:
        status = NOBODY_READS
        # Python tries once more at its end, and complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), printed.fileno())
    sys.exit(status)
