"""The document: OpenAPI 3.1, complete, and true of what is answered."""

import json
import re
from typing import Any

import pytest

from tests.web.conftest import Site
from vsp.web.openapi import document
from vsp.web.routes import ROUTES, Public
from vsp.web.wire import Wire

DOCUMENT = document(ROUTES, "0.1.0")


def walk(node: Any):
    yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from walk(child)


def test_every_route_is_in_the_document_with_its_permission():
    for route in ROUTES:
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        public = isinstance(route.access, Public)
        assert operation["x-action"] == ("public" if public else route.access.value)
        assert ("security" in operation) == public
        assert str(route.status) in operation["responses"]
        assert "default" in operation["responses"]
        assert bool(route.body or route.raw) == ("requestBody" in operation)


def test_its_frame_is_openapi_3_1():
    assert DOCUMENT["openapi"] == "3.1.0"
    assert {"title", "version"} <= DOCUMENT["info"].keys()
    assert set(DOCUMENT["components"]["securitySchemes"]) == {"bearer", "cookie"}
    names = [op["operationId"] for path in DOCUMENT["paths"].values() for op in path.values()]
    assert len(names) == len(set(names)) == len(ROUTES)


def test_every_path_parameter_is_declared_and_required():
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            declared = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path))
            for parameter in operation["parameters"]:
                assert parameter["in"] in {"path", "query"}
                assert "schema" in parameter


def test_every_reference_leads_somewhere():
    schemas = DOCUMENT["components"]["schemas"]
    references = [
        node["$ref"] for node in walk(DOCUMENT) if isinstance(node, dict) and "$ref" in node
    ]

    assert references
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in schemas
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in schemas)


def test_a_window_is_asked_by_from_and_to():
    parameters = DOCUMENT["paths"]["/api/v1/channels/{id}/timeline"]["get"]["parameters"]

    assert [(p["name"], p["required"]) for p in parameters] == [
        ("id", True),
        ("from", True),
        ("to", True),
    ]
    assert parameters[1]["schema"]["format"] == "date-time"


def test_no_answer_has_a_field_for_a_secret():
    secret = re.compile("password|secret|hash$|private|_key$")
    for route in ROUTES:
        if route.answer is None:
            continue
        schema = route.answer.model_json_schema(mode="serialization")
        for node in walk(schema):
            for name in node.get("properties", {}) if isinstance(node, dict) else ():
                # An audit row's hash is public on purpose: it is what others anchor.
                expected = {"must_change_password", "hash"}
                assert not secret.search(name) or name in expected, (route.path, name)


def test_unknown_fields_are_refused_everywhere():
    for route in ROUTES:
        for model in (route.body, route.query):
            assert model is None or issubclass(model, Wire)
            assert model is None or model.model_config["extra"] == "forbid"


async def test_it_is_served_to_whoever_is_signed_in(site: Site):
    answer = await site.api("GET", "/openapi.json", who="auditor")

    assert answer.status == 200
    assert answer.json["paths"].keys() == DOCUMENT["paths"].keys()
    assert json.loads(json.dumps(DOCUMENT)) == answer.json | {"info": DOCUMENT["info"]}


@pytest.mark.parametrize("path", ["/devices", "/channels", "/streams", "/overview", "/session"])
async def test_answers_have_exactly_the_fields_of_their_schema(site: Site, path: str):
    channel = await site.rig.channel()
    site.rig.streams.recording.add(channel.id)
    answer = (await site.api("GET", path)).json
    schema = DOCUMENT["paths"][f"/api/v1{path}"]["get"]["responses"]["200"]["content"]

    assert_fits(answer, schema["application/json"]["schema"])


def assert_fits(value: Any, schema: dict[str, Any]) -> None:
    """The part of JSON Schema that our documents use."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        return assert_fits(value, DOCUMENT["components"]["schemas"][name])
    if "anyOf" in schema:
        kinds = [
            each for each in schema["anyOf"] if (each.get("type") == "null") == (value is None)
        ]
        assert kinds
        return assert_fits(value, kinds[0])
    if schema.get("type") == "object" and "properties" in schema:
        assert value.keys() == schema["properties"].keys()
        for name, each in schema["properties"].items():
            assert_fits(value[name], each)
    if schema.get("type") == "array":
        for each in value:
            assert_fits(each, schema["items"])
    if schema.get("format") == "date-time":
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value)
    if "enum" in schema:
        assert value in schema["enum"]
    return None
