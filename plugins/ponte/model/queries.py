"""The author's SELECT: named parameters in, a query fit to be wrapped out.

The text is wrapped as `SELECT … FROM (<text>) AS features`, which takes one SELECT and refuses everything else; text
that would end the wrapping early is refused before it is sent, by us and by PostgreSQL, which alone knows where
quotes end. That guards against accidents. It is no sandbox: an author's Python runs in the same task.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import psycopg2
from sqlparse.lexer import tokenize
from sqlparse.tokens import Comment, Punctuation, String

from ponte.errors import PonteError, Problem, did_you_mean
from ponte.storage.columns import FAMILIES, Family
from ponte.storage.database import Database, is_transient
from ponte.storage.withholding import said_of

PARAMETERS = ("window_start", "window_end", "as_of")

#: PostgreSQL keeps the scale of a numeric in eleven bits; psycopg2 hands them on without their sign.
_SCALES = 2048

# Only a true array has a type that points back at it: not `name`, which is a text of fixed length.
_TYPE_NAMES = sa.text("""SELECT t.oid, CASE WHEN e.oid IS NULL THEN t.typname ELSE e.typname || '[]' END
    FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
    WHERE t.oid = ANY(:oids)""")

_BEGIN_TO_COUNT = sa.text("SELECT CAST(pg_current_xact_id() AS text)")
_COUNTED = sa.text("SELECT CAST(pg_current_xact_id_if_assigned() AS text)")


@dataclass(frozen=True)
class AuthorQuery:
    """`features.sql` or `labels.sql`."""

    file: str
    text: str

    @cached_property
    def _tokens(self) -> list[tuple[Any, str]]:
        """Tokens as they were written, but for the semicolons at the end."""
        found = list(tokenize(self.text))  # type: ignore[no-untyped-call]
        for place in range(len(found) - 1, -1, -1):
            kind, text = found[place]
            if kind in Punctuation and text == ";":
                found[place] = (kind, "")
            elif text.strip() and kind not in Comment:
                break
        return found

    @cached_property
    def _clause(self) -> sa.TextClause:
        # A colon in quotes or in a comment starts no parameter: '{"a":1}'.
        parts = [
            re.sub(r"(?<!\\):", r"\:", text) if kind in String or kind in Comment else text
            for kind, text in self._tokens
        ]
        # SQLAlchemy sees no parameter in `:as_of::date`, only in `:as_of ::date`.
        return sa.text(re.sub(r"(?<![:\w\\])(:\w+)(?=::)", r"\1 ", "".join(parts)).strip())

    def problems(self) -> list[Problem]:
        """Return what keeps the text from being one query with known parameters."""
        return self._shape_problems() + self._parameter_problems()

    def _shape_problems(self) -> list[Problem]:
        depth, lowest, statements = 0, 0, 1
        for kind, text in self._tokens:
            if kind in Punctuation:
                depth += (text == "(") - (text == ")")
                lowest = min(lowest, depth)
                statements += text == ";"
        found = []
        if statements > 1:
            found.append(Problem(file=self.file, what=f"holds {statements} statements", fix="keep the one SELECT"))
        if lowest < 0:
            found.append(Problem(file=self.file, what="closes a parenthesis that it has not opened"))
        return found

    def _parameter_problems(self) -> list[Problem]:
        return [
            Problem(
                file=self.file,
                field=f":{name}",
                what="unknown parameter",
                fix=f"{did_you_mean(name, PARAMETERS)}; write \\:{name} for a colon that starts no parameter",
            )
            for name in sorted(self._clause.compile().params.keys() - set(PARAMETERS))
        ]

    def sql(self, prefix: str = "") -> str:
        """Return the query for psycopg2, its parameters named `%(<prefix><name>)s`.

        The prefix keeps apart two queries of one statement that mean different moments by `:as_of`.
        """
        dialect = psycopg2.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]
        template: str = self._clause.compile(dialect=dialect).string
        for name in PARAMETERS:
            template = template.replace(f"%({name})s", f"%({prefix}{name})s")
        return template


def prefixed(parameters: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the parameters under the names that `AuthorQuery.sql(prefix)` uses."""
    return {f"{prefix}{name}": value for name, value in parameters.items()}


class QueryRefused(PonteError):
    """PostgreSQL does not take the author's text for one query; says it in PostgreSQL's words."""


def columns_of(db: Database, query: AuthorQuery, parameters: Mapping[str, Any]) -> list[tuple[str, str, Family | None]]:
    """Return (name, PostgreSQL type, family) per result column without running the query (LIMIT 0), READ ONLY.

    Raises QueryRefused or sqlalchemy.exc.DBAPIError when PostgreSQL does not accept the text, PonteError when the text
    has ended the transaction that it was inspected in.
    """
    statement = f"SELECT * FROM (\n{query.sql()}\n) AS features LIMIT 0"
    with db.read_only() as connection:
        _require_one_statement(db, _literal(connection, query, parameters))
        before = connection.execute(_BEGIN_TO_COUNT).scalar_one()
        result = connection.exec_driver_sql(statement, dict(parameters))
        assert result.cursor is not None
        description = result.cursor.description or ()
        after = connection.execute(_COUNTED).scalar_one()
        if after != before:
            what = "the query has ended the transaction that it was inspected in; what it wrote, it has written"
            got, expected = f"transaction {after}", f"transaction {before}"
            raise PonteError(what, where=query.file, got=got, expected=expected, fix="find out who wrote it, and why")
        return describe(description, connection)


def _literal(connection: sa.Connection, query: AuthorQuery, parameters: Mapping[str, Any]) -> str:
    """Return the author's text as psycopg2 sends it: its parameters are literals."""
    driver: Any = connection.connection.dbapi_connection
    with driver.cursor() as cursor:
        return str(cursor.mogrify(query.sql(), dict(parameters)).decode())


def _require_one_statement(db: Database, text: str) -> None:
    """Raise QueryRefused unless PostgreSQL can prepare the text, which takes one statement; it is not run.

    PostgreSQL alone knows where its quotes end, so it counts, before the text is wrapped: what is one statement alone
    closes every quote, comment and parenthesis that it opens. Not with `$1` for a parameter, for which valid SQL may
    have no place.
    """
    with db.adbc() as connection, connection.cursor() as cursor:
        try:
            cursor.adbc_prepare(text)
        except Exception as error:
            if is_transient(error):
                raise
            said = str(error).partition("ERROR:  ")[2].rpartition("\nQuery was: ")[0].strip()
            raise QueryRefused(said or said_of(error)) from error


def describe(cursor_description: Sequence[Any], connection: sa.Connection) -> list[tuple[str, str, Family | None]]:
    """Return (name, PostgreSQL type, family or None when Ponte cannot carry the type) per column of a query.

    A type is called as it was declared: `numeric(8,2)`, `varchar(9)`; a domain as the type below it. An array is
    called `float8[]`, and is carried by no family.
    """
    oids = [column[1] for column in cursor_description]
    rows = connection.execute(_TYPE_NAMES, {"oids": oids})
    names: dict[int, str] = dict(rows.all())
    kinds = [(column, names.get(column[1], "?")) for column in cursor_description]
    return [(column[0], _declared(kind, column), FAMILIES.get(kind)) for column, kind in kinds]


def _declared(kind: str, column: Sequence[Any]) -> str:
    length, precision, scale = (*column, *[None] * 6)[3:6]
    if length is None or length < 0:
        return kind
    if kind == "numeric":
        return f"numeric({precision},{scale - _SCALES if scale >= _SCALES // 2 else scale})"
    return f"{kind}({length})" if kind in ("varchar", "bpchar") else kind
