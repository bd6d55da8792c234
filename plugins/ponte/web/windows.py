"""A window: `GET /ponte/model/{model}/{window}`."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
