"""Answers in JSON, and what an error becomes."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from tumpline.errors import (
    ConfigError,
    MalformedError,
    NoAnswerError,
    NotReachableError,
    RefusedError,
    StorageError,
    TumplineError,
)
from tumpline.node.control.api import NotFoundError
from tumpline.node.control.values import Problem

# The first class that fits gives the HTTP status. Whatever is not a TumplineError is our own fault: 500.
_STATUS: tuple[tuple[type[TumplineError], int], ...] = (
    (NotFoundError, 404),
    (MalformedError, 400),
    (ConfigError, 400),
    (RefusedError, 403),
    (NoAnswerError, 504),
    (NotReachableError, 502),
    (StorageError, 507),
    (TumplineError, 500),
)
USAGE_EXIT_CODE = ConfigError.exit_code


def status_of(error: Exception) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem_of(error: Exception) -> Problem:
    """What the person who asked reads. Octets or text that they sent and that we cannot read are wrong usage."""
    if isinstance(error, MalformedError):
        return Problem(str(error), USAGE_EXIT_CODE)
    if isinstance(error, TumplineError):
        return Problem(str(error) or type(error).__doc__ or "", error.exit_code)
    return Problem(f"the agent made a mistake: {type(error).__name__}: {error}", 1)


def json_response(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def error_response(error: Exception) -> web.Response:
    return json_response(problem_of(error), status_of(error))
