"""The OpenAPI 3.1 document, generated from the declarations, so that it matches the validation by msgspec."""

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

import msgspec

from popug_cli.messages import problem
from popug_cli.messages.base import Access, Declaration
from popug_cli.messages.identity import KeySet
from popug_cli.server.requests import JSON, public_messages

OpenApiDocument = dict[str, Any]
OPENAPI_JSON = "application/vnd.oai.openapi+json"
JWK_SET_JSON = "application/jwk-set+json"
EVENT_STREAM = "text/event-stream"
PROMETHEUS = "text/plain"
REFERENCE = "#/components/schemas/{name}"
ERROR_DESCRIPTIONS = {
    400: "The body is not valid JSON, or the request is not valid HTTP",
    401: "Not logged in, or the token is not valid",
    403: "Not allowed",
    404: "Not found",
    408: "The request was not complete in time",
    409: "The current state does not allow it",
    413: "The body is too large",
    414: "The address is too long",
    415: "The body is not declared to be JSON",
    421: "The host is not a name of the server",
    422: "Wrong usage or invalid input",
    429: "Too many failed logins",
    431: "The headers are too large",
    500: "An internal error, or a failed integrity check",
    503: "Not available now; nothing changed, unless the code is in_doubt or the details have ended or closed",
}
HEADERS = {
    "Popug-Version": "The server's version.",
    "Popug-Home-Id": "The company's id.",
    "Popug-Time-Zone": "The company's time zone, an IANA name.",
    "Popug-Position": "The positions that the answer of a message shows. Send the greatest of each source back.",
}
DESCRIPTION = (
    "Each message of popug is sent by POST, as JSON; `popug permissions` shows the roles that may send it. An error is"
    " a problem document (RFC 9457) with popug's `code`, `hint` and `exit_status`."
)
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A command sent again with the same key takes effect once; its answer is kept for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~]([ -~]{0,253}[!#-~])?$"},
}
EVENT_STREAM_DESCRIPTION = "A stream of events; `id` is the position, `event` the type and `data` the envelope as JSON."


def document(version: str) -> OpenApiDocument:
    """Return the whole document."""
    declarations = list(public_messages())
    types = (
        [declaration.message for declaration in declarations]
        + [declaration.answer for declaration in declarations]
        + [problem.ProblemDocument, KeySet]
    )
    schemas, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    components["ProblemDocument"]["required"] = list(problem.ProblemDocument.__struct_fields__)
    request_schemas, answer_schemas = schemas[: len(declarations)], schemas[len(declarations) : -2]
    paths = {
        declaration.path: {"post": _operation(declaration, request, answer)}
        for declaration, request, answer in zip(declarations, request_schemas, answer_schemas, strict=True)
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "popug", "version": version, "summary": "A task exchange", "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in sorted({declaration.module for declaration in declarations} | {"server"})],
        "paths": paths | dict(_meta_paths(schemas[-1])),
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "responses": {
                str(status): _error_response(description, schemas[-2])
                for status, description in ERROR_DESCRIPTIONS.items()
            },
            "headers": {name: _header(description) for name, description in HEADERS.items()},
        },
    }


def _operation(declaration: Declaration, request: OpenApiDocument, answer: OpenApiDocument) -> OpenApiDocument:
    docstring = cleandoc(declaration.message.__doc__ or "").replace("``", "`")
    accepts_idempotency_key = declaration.is_command and not declaration.is_secret
    return {
        "operationId": declaration.name,
        "tags": [declaration.module],
        "summary": docstring.partition("\n")[0],
        "description": f"Sent by `popug {declaration.command_line}`. {_describe_roles(declaration)}\n\n{docstring}",
        "security": [] if declaration.access is Access.PUBLIC else [{"token": []}],
        "parameters": [IDEMPOTENCY_KEY] if accepts_idempotency_key else [],
        "requestBody": {"required": True, "content": {JSON: {"schema": request}}},
        "responses": {"200": _success("The answer", JSON, answer)} | _error_responses(),
    }


def _describe_roles(declaration: Declaration) -> str:
    if declaration.access is Access.PUBLIC:
        return "Needs no token."
    roles = ", ".join(sorted(declaration.roles))
    others = ", ".join(sorted(declaration.roles_for_others))
    about_others = f" (about another user: {others})" if declaration.has_username else ""
    return f"For {roles}{about_others}."


def _meta_paths(key_set: OpenApiDocument) -> Iterator[tuple[str, OpenApiDocument]]:
    status_schema = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
    yield "/healthz", _get("healthz", "Whether the process is alive.", JSON, status_schema)
    yield "/readyz", _get("readyz", "Whether the server can process messages.", JSON, status_schema)
    yield "/metrics", _get("metrics", "The metrics, for Prometheus; without its package, 404.", PROMETHEUS, {})
    key_set_description = "The public keys that verify tokens, as a JWK set."
    yield "/.well-known/jwks.json", _get("jwks", key_set_description, JWK_SET_JSON, key_set)
    yield "/v1/events", _get("events", EVENT_STREAM_DESCRIPTION, EVENT_STREAM, {"type": "string"})
    yield "/schema/openapi.json", _get("openapi", "This document.", OPENAPI_JSON, {})


def _get(name: str, description: str, media_type: str, schema: OpenApiDocument) -> OpenApiDocument:
    operation: OpenApiDocument = {
        "operationId": name,
        "tags": ["server"],
        "summary": description,
        "security": [],
        "responses": {"200": _success(description, media_type, schema)} | _error_responses(),
    }
    if name == "events":
        operation |= {"security": [{"token": []}], "parameters": list(_parameters_of_events())}
    return {"get": operation}


def _parameters_of_events() -> Iterator[OpenApiDocument]:
    for name, description in (
        ("type", "Only events of this type, given in full or by its event name."),
        ("subject", "Only events with this subject."),
        ("actor", "Only events that this user caused."),
        ("service", "Only events that this module, or service of a cluster, publishes."),
        ("cursor", "On a cluster: only events after this cursor, the id of an event of an earlier stream."),
    ):
        yield {"name": name, "in": "query", "description": description, "schema": {"type": "string"}}
    position = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
    yield {"name": "after", "in": "query", "description": "Only events after this position.", "schema": position}
    last_event_id = "The id of the last event that was received; takes precedence over `after` and `cursor`."
    yield {"name": "Last-Event-ID", "in": "header", "description": last_event_id, "schema": {"type": "string"}}


def _success(description: str, media_type: str, schema: OpenApiDocument) -> OpenApiDocument:
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS}
    return {"description": description, "headers": headers, "content": {media_type: {"schema": schema}}}


def _error_responses() -> OpenApiDocument:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in ERROR_DESCRIPTIONS}


def _error_response(description: str, schema: OpenApiDocument) -> OpenApiDocument:
    return _success(description, problem.MEDIA_TYPE, schema)


def _header(description: str) -> OpenApiDocument:
    return {"description": description, "schema": {"type": "string"}}
