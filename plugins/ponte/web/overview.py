"""The overview: `GET /ponte/`, every model in one table, and above it what needs a person."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
