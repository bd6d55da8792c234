"""Versions: `GET /ponte/report/{model}`, and two of them beside each other."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
