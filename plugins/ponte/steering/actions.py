"""The decisions that there are: their DAG, their fields, the help for each, in Ponte's forms and in Airflow's.

Names of fields are those of the DAG's params; what a field's help says of an empty one is what the task does then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["one", "days", "day", "word", "switch", "reason"]

MARKS = ("bad", "not bad", "other libraries allowed", "other libraries refused")


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """What a form asks for."""

    #: Name of the DAG's param.
    name: str
    title: str
    help: str
    #: one: a number out of a list; days: any number of days; day: one day; word: one of `words`; switch; reason.
    kind: Kind
    #: The list of `Choices` it is chosen from; "" without one.
    of: Literal["versions", "batches", "windows", "alarms", ""] = ""
    #: The field of the address that fills it in; "" for none.
    asked: Literal["version", "batch", "window", "alarm", ""] = ""
    #: What it means to leave it empty; "": it has to be filled in.
    empty: str = ""
    #: Title of a second box, for what is not in the list; "" for none.
    other: str = ""
    words: tuple[tuple[str, str], ...] = ()
    #: Of a switch: what the button says instead when it is on; "": the same.
    button: str = ""

    @property
    def words_of_help(self) -> str:
        """The help, and what it means to leave the field empty."""
        return f"{self.help} Empty: {self.empty}." if self.empty else self.help


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """A decision."""

    #: As in the address.
    name: str
    title: str
    #: What it does, and what it does not.
    help: str
    #: Of its DAG, with `{model}` where the model's name belongs.
    dag: str
    fields: tuple[Field, ...]
    #: What the button says that starts the run.
    button: str

    def dag_id(self, model: str) -> str:
        """Return the DAG that does it."""
        return self.dag.format(model=model)

    def pressed(self, values: Mapping[str, Sequence[str]]) -> str:
        """Return what the button says that starts the run, by the switches that are on among the fields' values."""
        return next((field.button for field in self.fields if field.button and values.get(field.name)), self.button)

    def field(self, name: str) -> Field | None:
        """Return the field of that name, None if the form has none."""
        return next((field for field in self.fields if field.name == name), None)


REASON = Field(
    name="reason",
    title="Reason",
    kind="reason",
    help="Kept for ever, with your name, for all to read.",
)
ALLOW_BAD = Field(
    name="allow_bad",
    title="Although it is marked bad",
    kind="switch",
    help="Without this a version that is marked bad is refused.",
)
ALLOW_HINDSIGHT = Field(
    name="allow_hindsight",
    title="Allow hindsight",
    kind="switch",
    help="Let the version score a window although it may have learned from what happened after. Batch and rows are "
    "then marked as hindsight.",
)


def version_field(help_text: str, *, empty: str = "") -> Field:
    """Return the field for a version."""
    return Field(
        name="version", title="Version", kind="one", of="versions", asked="version", help=help_text, empty=empty
    )


ACTIONS = (
    Action(
        name="score",
        title="Score a window again",
        help="Freezes, checks, scores and guards a window, and shows it to people in place of what they see now. That "
        "is kept as long as the model's retention says.",
        dag="{model}__score",
        button="Score it",
        fields=(
            Field(
                name="window_start",
                title="First day of the window",
                kind="day",
                of="windows",
                asked="window",
                help="Rows are read from the source anew.",
                empty="the window that is due now",
                other="Or another first day, YYYY-MM-DD",
            ),
            ALLOW_HINDSIGHT,
        ),
    ),
    Action(
        name="train",
        title="Train a version",
        help="Trains on past windows, measures beside the champion, and asks the gate. What follows is what the "
        "model's folder says under promotion.",
        dag="{model}__train",
        button="Train it",
        fields=(
            Field(
                name="as_of",
                title="As of",
                kind="day",
                help="Train as if it were 00:00 UTC of this day: no later label or feature is used.",
                empty="today",
            ),
        ),
    ),
    Action(
        name="roll-back",
        title="Roll back",
        help="Makes an earlier version champion again and, in the same moment, shows people its predictions of the "
        "windows you choose. A rollback can be taken back by another one.",
        dag="ponte__rollback",
        button="Roll back",
        fields=(
            version_field("The version to go back to."),
            Field(
                name="windows",
                title="Windows to restore",
                kind="days",
                of="windows",
                asked="window",
                help="A window that people have seen from that version is shown again as it was; any other one is "
                "scored anew first.",
                empty="what people see stays as it is, and only the champion moves",
                other="Windows that are not in the list: first days, YYYY-MM-DD, with blanks between them",
            ),
            Field(
                name="every_window",
                title="Every window",
                kind="switch",
                help="Also restore all windows that people now see from the champion that is left.",
            ),
            Field(
                name="mark_bad",
                title="Mark the version left as bad",
                kind="switch",
                help="So that no backfill and no later run chooses it again. It can be taken back.",
            ),
            ALLOW_BAD,
            ALLOW_HINDSIGHT,
            REASON,
        ),
    ),
    Action(
        name="publish",
        title="Publish anyway",
        help="Shows people a batch that a guard has rejected. What the guards found stays in the history.",
        dag="ponte__publish_batch",
        button="Publish it",
        fields=(
            Field(
                name="batch_id",
                title="Batch",
                kind="one",
                of="batches",
                asked="batch",
                help="A batch that its checks rejected has no predictions, and is not in the list.",
            ),
            Field(
                name="new_normal",
                title="This is the new normal",
                kind="switch",
                help="A level has moved for good: guards and drift compare later windows only with windows from this "
                "one on.",
            ),
            REASON,
        ),
    ),
    Action(
        name="promote",
        title="Promote",
        help="Makes a version champion because you say so, whatever the gate said. Windows that people see stay as "
        "they are; to change these too, roll back.",
        dag="ponte__promote",
        button="Make it champion",
        fields=(version_field("The version that shall score from now on."), ALLOW_BAD, REASON),
    ),
    Action(
        name="mark",
        title="Mark a version",
        help="Says something about a version that counts from now on. It moves no champion and changes nothing that "
        "people see. The newest mark counts, so it can be taken back.",
        dag="ponte__mark_version",
        button="Mark it",
        fields=(
            version_field("The version that the mark is for."),
            Field(
                name="mark",
                title="Mark",
                kind="word",
                help="Bad: no run chooses it by itself any more. Other libraries: whether it may run with versions of "
                "libraries other than those that trained it.",
                words=tuple((mark, mark) for mark in MARKS),
            ),
            REASON,
        ),
    ),
    Action(
        name="judge",
        title="Judge again",
        help="Measures a version beside the champion of now, on the rows of its training, and asks the gate as the "
        "folder says it now. Nothing is trained; a version that passes is promoted if the folder's promotion lets it.",
        dag="ponte__judge",
        button="Judge it",
        fields=(version_field("After [gate] or [approval] has changed.", empty="the newest version"),),
    ),
    Action(
        name="challenge",
        title="Hold against the champion",
        help="Makes a version challenger: each week it predicts beside the champion, unseen, and is compared when "
        "labels come. It takes the place of another challenger.",
        dag="ponte__challenge",
        button="Make it challenger",
        fields=(
            version_field("The challenger."),
            Field(
                name="withdraw",
                title="Withdraw it",
                kind="switch",
                help="End its duel: nothing holds it against the champion any more.",
                button="Withdraw it",
            ),
            REASON,
        ),
    ),
    Action(
        name="alarm",
        title="Answer an alarm",
        help="Acknowledges an alarm, or closes it.",
        dag="ponte__alarm",
        button="Answer it",
        fields=(
            Field(
                name="alarm_id", title="Alarm", kind="one", of="alarms", asked="alarm", help="One that is not closed."
            ),
            Field(
                name="action",
                title="Answer",
                kind="word",
                help="Acknowledge: it is known, and goes on; nothing follows from it any more. Close: it is over, and "
                "the rules begin anew with what is scored from now on.",
                words=(("acknowledge", "acknowledge"), ("close", "close")),
            ),
            REASON,
        ),
    ),
)

BY_NAME = {action.name: action for action in ACTIONS}
