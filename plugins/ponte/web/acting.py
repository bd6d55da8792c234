"""Decisions: `GET /ponte/act/{action}/{model}`, a form, and `POST /ponte/act`, which starts the run."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
