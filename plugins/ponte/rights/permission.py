"""May this person decide about a model? Whoever may edit its training DAG may."""

from __future__ import annotations

from typing import Any, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.models import DagModel


def models_of(user: Any, method: Literal["GET", "PUT"] = "GET") -> frozenset[str]:
    """Return the models that the user may look at, or with PUT decide about: those whose training DAG they may."""
    found = get_auth_manager().get_authorized_dag_ids(user=user, method=method)
    return frozenset(name.removesuffix("__train") for name in found if name.endswith("__train"))


def may_edit(user: Any, model: str) -> bool:
    """Return whether the user may decide about the model: whether they may edit its training DAG."""
    dag_id = f"{model}__train"
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    return get_auth_manager().is_authorized_dag(method="PUT", details=details, user=user)


def refusal(model: str, dag_id: str | None = None) -> str:
    """Return what a person reads who may not decide about the model, or not start runs of the DAG that does it."""
    name = model[:100]
    runs = f" and to start runs of {dag_id}" if dag_id else ""
    return f"You may not decide about {name}: that takes the right to edit {name}__train{runs}."


def may_act(user: Any, model: str, dag_id: str) -> bool:
    """Return whether the user may decide about the model, and create runs of the DAG that does it."""
    if not may_edit(user, model):
        return False
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    return get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user
    )
