"""A model: `GET /ponte/model/{model}`, and its summary at its DAGs: `GET /ponte/tab/{dag_id}`."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
