"""The OpenAPI 3.1 document, generated from the route table and the wire models.

Schemas are pydantic's JSON Schema 2020-12, which is what OpenAPI 3.1 embeds. Each operation carries
its permission as `x-action`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from vsp.web.routes import Public, Route
from vsp.web.wire import ErrorOut

_PARAMETER = re.compile(r"\{(\w+)\}")
_REF = "#/components/schemas/{model}"

Mode = Literal["validation", "serialization"]
Schemas = Callable[[type[BaseModel], Mode], Mapping[str, Any]]


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The whole document, ready for `json.dumps`."""
    wanted: dict[tuple[type[BaseModel], Mode], None] = {(ErrorOut, "serialization"): None}
    for route in routes:
        for model, mode in _models(route):
            wanted[(model, mode)] = None
    made, definitions = models_json_schema(list(wanted), ref_template=_REF)

    def schemas(model: type[BaseModel], mode: Mode) -> Mapping[str, Any]:
        return made[(model, mode)]

    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vsp",
            "version": version,
            "summary": "Video sharing platform over GB/T 28181",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"cookie": []}],
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "__Host-vsp"},
            },
        },
    }


def _models(route: Route) -> list[tuple[type[BaseModel], Mode]]:
    """Bodies as they are read, answers as they are written. Queries become parameters instead."""
    models: list[tuple[type[BaseModel], Mode]] = []
    if route.body is not None:
        models.append((route.body, "validation"))
    if route.answer is not None:
        models.append((route.answer, "serialization"))
    return models


def _operation(route: Route, schemas: Schemas) -> dict[str, Any]:
    public = isinstance(route.access, Public)
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.path.split("/")[3].split(":")[0]],
        "x-action": "public" if isinstance(route.access, Public) else route.access.value,
        "parameters": _parameters(route),
        "responses": _responses(route, schemas),
    }
    if public:
        operation["security"] = []
    if route.raw:
        operation["requestBody"] = _sheet_body()
    elif route.body is not None:
        content = {"application/json": {"schema": schemas(route.body, "validation")}}
        operation["requestBody"] = {"content": content, "required": _has_required(route.body)}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    if route.query is None:
        return parameters
    schema = route.query.model_json_schema(ref_template=_REF)
    inlined = {_REF.format(model=name): value for name, value in schema.get("$defs", {}).items()}
    for name, field in schema.get("properties", {}).items():
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "schema": _inline(field, inlined),
            }
        )
    return parameters


def _inline(schema: Any, definitions: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Parameters carry their enums in place; they are small and used once."""
    if isinstance(schema, Mapping):
        if schema.get("$ref") in definitions:
            return _inline(definitions[schema["$ref"]], definitions)
        return {key: _inline(value, definitions) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_inline(item, definitions) for item in schema]
    return schema


def _responses(route: Route, schemas: Schemas) -> dict[str, Any]:
    success: dict[str, Any] = {"description": route.summary}
    if route.answer is not None:
        schema = schemas(route.answer, "serialization")
        success["content"] = {"application/json": {"schema": schema}}
    elif route.media not in {"application/json", "websocket"}:
        success["content"] = {route.media: {"schema": {"type": "string"}}}
    error = {
        "description": "Refused or failed; `kind` says who must act",
        "content": {
            "application/json": {"schema": schemas(ErrorOut, "serialization")},
        },
    }
    return {str(route.status): success, "default": error}


def _has_required(model: type[BaseModel]) -> bool:
    return any(field.is_required() for field in model.model_fields.values())


def _sheet_body() -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    return {
        "required": True,
        "content": {
            "text/csv": text,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "contentMediaType": "text/csv"}},
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"csv": {"type": "string"}},
                    "required": ["csv"],
                }
            },
        },
    }
