"""Make a version champion because a person says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ponte.operators.base import PROMOTER, PonteOperator, actor_of, run_key
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class SetChampionOperator(PonteOperator):
    """Verify the version's files and move the alias, whatever the gate said; returns `{version, alias_event_id}`."""

    default_connection_id = PROMOTER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from ponte.decisions.promotion import set_champion
        from ponte.versions.loading import load_registered
        from ponte.versions.registry import get_version

        form = context["params"]
        version = get_version(runtime.db, self.model, form["version"])
        load_registered(runtime.db, runtime.store, version)
        alias = set_champion(
            runtime.db,
            version,
            run_id=run_key(context),
            actor=actor_of(context),
            reason=form["reason"],
            allow_bad=form["allow_bad"],
        )
        return {"version": alias.version, "alias_event_id": alias.event_id}
