"""The OpenAPI document as an HTML page without scripts."""

from collections.abc import Iterator
from html import escape

from popug_cli.server.openapi import OpenApiDocument

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222; }
h2 { border-bottom: 1px solid #ccc; margin-top: 2.5rem; } h3 { margin-bottom: 0; }
code { font-family: ui-monospace, monospace; font-size: .9em; } table { border-collapse: collapse; }
td, th { border-bottom: 1px solid #ddd; padding: .2rem 1rem .2rem 0; text-align: left; vertical-align: top; }
.method { color: #06c; font-weight: 600; } .lock { color: #888; }
@media (prefers-color-scheme: dark) { body { background: #1b1b1b; color: #ddd; } .method { color: #6af; } }
"""


def render(document: OpenApiDocument) -> str:
    """Render the document as HTML."""
    return "\n".join(_lines(document))


def _lines(document: OpenApiDocument) -> Iterator[str]:
    info = document["info"]
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>popug {escape(info['version'])}</title><style>{STYLE}</style></head><body>"
    yield f"<h1>popug {escape(info['version'])}</h1><p>{_paragraph(info['description'])}</p>"
    yield '<p>For programs: <a href="/schema/openapi.json">openapi.json</a></p>'
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2>"
        for path, item in sorted(document["paths"].items()):
            for method, operation in item.items():
                if tag["name"] in operation["tags"]:
                    yield from _operation(path, method, operation, document["components"]["schemas"])
    yield "</body></html>"


def _operation(path: str, method: str, operation: OpenApiDocument, schemas: OpenApiDocument) -> Iterator[str]:
    token_note = ' <span class="lock">needs a token</span>' if operation["security"] else ""
    yield f'<h3 id="{escape(operation["operationId"])}"><span class="method">{method.upper()}</span>'
    yield f"<code>{escape(path)}</code>{token_note}</h3>"
    yield f"<p>{_paragraph(operation.get('description') or operation['summary'])}</p>"
    rows = [*_fields(operation, schemas), *_parameters(operation)]
    if rows:
        yield "<table><tr><th>takes</th><th>is</th><th></th></tr>"
        for name, description, note in rows:
            yield f"<tr><td><code>{escape(name)}</code></td><td>{escape(description)}</td><td>{escape(note)}</td></tr>"
        yield "</table>"
    for media_type, content in operation["responses"]["200"]["content"].items():
        answer = escape(describe_schema(content["schema"]))
        yield f"<p>Answers {answer} <span class='lock'>{escape(media_type)}</span></p>"


def _fields(operation: OpenApiDocument, schemas: OpenApiDocument) -> Iterator[tuple[str, str, str]]:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = schemas[content["schema"]["$ref"].rpartition("/")[2]]
        for name, field_schema in schema.get("properties", {}).items():
            yield name, describe_schema(field_schema), "required" if name in schema.get("required", ()) else ""


def _parameters(operation: OpenApiDocument) -> Iterator[tuple[str, str, str]]:
    for parameter in operation.get("parameters", ()):
        yield parameter["name"], f"{parameter['in']}: {parameter['description']}", ""


def describe_schema(schema: OpenApiDocument) -> str:
    """Describe a JSON Schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(describe_schema(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {describe_schema(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "anything")


def _paragraph(text: str) -> str:
    """Escape a paragraph and format text in backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
