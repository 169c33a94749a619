"""Reading what a client sends: bounded in bytes and in time, then judged by a model."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from vsp.errors import Invalid, Unavailable

M = TypeVar("M", bound=BaseModel)

BODY_BYTES_MAX = 256 << 10
"""A JSON body; the largest real one approves 1,000 candidates in about 120 KB."""

READ_TIMEOUT_S = 30.0
"""For a whole body: 4 MiB over 2 Mbit/s take 17 s; a slower client is holding a socket."""


async def read_capped(request: web.Request, bytes_max: int) -> bytes:
    """The body. Raises 413 beyond `bytes_max`, without reading on, and Unavailable when slow."""
    if (request.content_length or 0) > bytes_max:
        raise web.HTTPRequestEntityTooLarge(bytes_max, request.content_length or 0)
    data = bytearray()
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                data += chunk
                if len(data) > bytes_max:
                    raise web.HTTPRequestEntityTooLarge(bytes_max, len(data))
    except TimeoutError as error:
        raise Unavailable(f"the body did not arrive within {READ_TIMEOUT_S:.0f} s") from error
    return bytes(data)


async def read_model(request: web.Request, kind: type[M], bytes_max: int = BODY_BYTES_MAX) -> M:
    """The JSON body as a model; no body is `{}`. Raises Invalid naming the field."""
    data = await read_capped(request, bytes_max)
    try:
        return kind.model_validate_json(data.strip() or b"{}")
    except ValidationError as error:
        raise invalid(error, "body") from error


def read_query(request: web.Request, kind: type[M]) -> M:
    """The query as a model; empty values count as absent. Raises Invalid naming the field."""
    values = {name: text for name, text in request.query.items() if text}
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise invalid(error, "query") from error


def invalid(error: ValidationError, where: str) -> Invalid:
    """The first of pydantic's complaints, without echoing what was sent."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    place = f"{where} field {field}" if field else where
    message = first["msg"].removeprefix("Value error, ")
    return Invalid(f"{place}: {message}", next_step="see /api/v1/openapi.json")
