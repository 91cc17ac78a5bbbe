"""The OpenAPI 3.1 document, made from the declarations: what msgspec checks is what it says."""

from collections.abc import Iterator
from typing import Any

import msgspec

from popug_cli.messages.base import Access, Declaration
from popug_cli.messages.identity import KeySet
from popug_cli.server import problems
from popug_cli.server.requests import JSON, path_of, served

Document = dict[str, Any]
REFERENCE = "#/components/schemas/{name}"
REFUSALS = {
    400: "The body is no JSON, or the request no HTTP",
    401: "Not logged in, or the token is no good",
    403: "Not allowed",
    404: "Not found",
    408: "The request did not come to its end",
    409: "The present state does not allow it",
    413: "The body is too large",
    414: "The address is too long",
    415: "The body is not declared to be JSON",
    421: "The server has no such name",
    422: "Wrong usage or invalid input",
    429: "Too many failed logins",
    431: "The headers are too large",
    500: "A fault of the program's own, or an integrity check that failed",
    503: "Not available now; nothing changed, unless the code is in_doubt",
}
HEADERS = {
    "Popug-Version": "The server's version.",
    "Popug-Home-Id": "The company's id.",
    "Popug-Time-Zone": "The company's time zone, an IANA name.",
}
ABOUT = (
    "Every message of popug by POST, as JSON; who may send it is what `popug permissions` says. A refusal is a problem"
    " document (RFC 9457) with popug's `code`, `hint` and `exit_status`."
)
KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Sent again under the same key, the command takes effect once; its answer is kept for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~]([ -~]{0,253}[!#-~])?$"},
}
ENVELOPES = "A stream of events; `id` is the position, `event` the type and `data` the envelope as JSON."


def document(version: str) -> Document:
    """The whole document."""
    declared = list(served())
    types = [each.message for each in declared] + [each.answer for each in declared] + [problems.Problem, KeySet]
    shapes, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    of_message, of_answer = shapes[: len(declared)], shapes[len(declared) : -2]
    paths = {
        path_of(each): {"post": _operation(each, takes, gives)}
        for each, takes, gives in zip(declared, of_message, of_answer, strict=True)
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "popug", "version": version, "summary": "A task exchange", "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in sorted({each.module for each in declared} | {"server"})],
        "paths": paths | dict(_paths_about(shapes[-1])),
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "responses": {str(status): _refusal(words, shapes[-2]) for status, words in REFUSALS.items()},
            "headers": {name: _header(words) for name, words in HEADERS.items()},
        },
    }


def _operation(declaration: Declaration, takes: Document, gives: Document) -> Document:
    words = (declaration.message.__doc__ or "").strip()
    keyed = declaration.is_command and not declaration.is_secret
    return {
        "operationId": declaration.name,
        "tags": [declaration.module],
        "summary": words.partition("\n")[0],
        "description": f"What `popug {declaration.line}` sends. {_allowed(declaration)}\n\n{words}",
        "security": [] if declaration.access is Access.PUBLIC else [{"token": []}],
        "parameters": [KEY] if keyed else [],
        "requestBody": {"required": True, "content": {JSON: {"schema": takes}}},
        "responses": {"200": _success("The answer", JSON, gives)} | _refusals(),
    }


def _allowed(declaration: Declaration) -> str:
    if declaration.access is Access.PUBLIC:
        return "Needs no token."
    roles = ", ".join(sorted(declaration.roles))
    others = ", ".join(sorted(declaration.others))
    about_others = f" (about somebody else: {others})" if declaration.names_a_person else ""
    return f"For {roles}{about_others}."


def _paths_about(key_set: Document) -> Iterator[tuple[str, Document]]:
    state = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
    yield "/healthz", _get("healthz", "Whether the process lives.", JSON, state)
    yield "/readyz", _get("readyz", "Whether the company can be worked with.", JSON, state)
    keys = "The public keys that prove tokens, as a JWK set."
    yield "/.well-known/jwks.json", _get("jwks", keys, "application/jwk-set+json", key_set)
    yield "/v1/events", _get("events", ENVELOPES, "text/event-stream", {"type": "string"})
    yield "/schema/openapi.json", _get("openapi", "This document.", "application/vnd.oai.openapi+json", {})


def _get(name: str, words: str, media_type: str, shape: Document) -> Document:
    operation: Document = {
        "operationId": name,
        "tags": ["server"],
        "summary": words,
        "security": [],
        "responses": {"200": _success(words, media_type, shape)} | _refusals(),
    }
    if name == "events":
        operation |= {"security": [{"token": []}], "parameters": list(_parameters_of_events())}
    return {"get": operation}


def _parameters_of_events() -> Iterator[Document]:
    for name, words in (
        ("type", "Only events of this type, or of this middle name of a type."),
        ("subject", "Only events about this."),
        ("actor", "Only what this person did."),
    ):
        yield {"name": name, "in": "query", "description": words, "schema": {"type": "string"}}
    position = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
    yield {"name": "after", "in": "query", "description": "Only events after this position.", "schema": position}
    resumed = "The position of the last event that was seen; goes before `after`."
    yield {"name": "Last-Event-ID", "in": "header", "description": resumed, "schema": position}


def _success(words: str, media_type: str, shape: Document) -> Document:
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS}
    return {"description": words, "headers": headers, "content": {media_type: {"schema": shape}}}


def _refusals() -> Document:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in REFUSALS}


def _refusal(words: str, shape: Document) -> Document:
    return _success(words, problems.MEDIA_TYPE, shape)


def _header(words: str) -> Document:
    return {"description": words, "schema": {"type": "string"}}
