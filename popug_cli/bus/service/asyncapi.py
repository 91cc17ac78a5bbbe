"""The AsyncAPI 3.0 document of a cluster's topics (https://www.asyncapi.com/docs/reference/specification/v3.0.0).

It is derived from the declarations of the events and of the services, and from the format of records, so that it
matches what the services send.
"""

import json
from collections.abc import Iterable, Iterator
from inspect import cleandoc
from typing import Any

import msgspec

from popug_cli.bus.publisher import MAX_EVENT_BYTES
from popug_cli.bus.records import CONTENT_TYPE, CONTENT_TYPE_HEADER, LOG_ID, POSITION, REPEATED_ATTRIBUTES
from popug_cli.messages.base import Event
from popug_cli.messages.bus import AsyncApiDocument
from popug_cli.messages.envelope import Envelope
from popug_cli.messages.schema import all_schemas
from popug_cli.messages.services import SERVICES
from popug_cli.messages.topics import (
    CREATED_SETTINGS,
    FIXED_SETTINGS,
    MIN_IN_SYNC,
    PARTITIONS,
    REPLICATION_FACTOR,
    published_events,
    received_events,
)

BINDING_VERSION = "0.5.0"  # of https://github.com/asyncapi/bindings/tree/master/kafka
WATERMARK = "watermark"
EVENT_HEADERS, WATERMARK_HEADERS = "event_headers", "watermark_headers"
DESCRIPTION = (
    "The events of a company that runs as five services. Each service sends to one topic. A record is a CloudEvents 1.0"
    " event in structured mode, of the Kafka protocol binding; its value has at most {max_bytes:,} bytes. Watermarks"
    " stand between the events. A program should ignore headers and fields that it does not know."
)
LOG_ID_SCHEMA = {
    "type": "string",
    "pattern": f"^{LOG_ID.pattern}$",
    "description": "The id of the publisher's log. A restored backup has a new one.",
}


def document(version: str, prefix: str) -> AsyncApiDocument:
    """Return the document of the topics whose names begin with ``prefix``; ``version`` is that of popug."""
    schemas, messages = _event_schemas(), {WATERMARK: _watermark_message()}
    for service in SERVICES:
        for event in published_events(service):
            messages[event.TYPE] = _message(event)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "popug",
            "version": version,
            "description": DESCRIPTION.format(max_bytes=MAX_EVENT_BYTES),
            "license": {"name": "MIT"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {service: _channel(service, f"{prefix}.{service}") for service in SERVICES},
        "operations": dict(_operations()),
        "components": {
            "messages": messages,
            "schemas": {
                **schemas,
                EVENT_HEADERS: _headers(_event_headers()),
                WATERMARK_HEADERS: _headers(_watermark_headers(), optional=("popug_includes",)),
            },
        },
    }


def _topic_configuration() -> AsyncApiDocument:
    """Return the settings of a topic as values of JSON; the binding has the policy as a list."""
    settings = {**FIXED_SETTINGS, **CREATED_SETTINGS, "min.insync.replicas": str(MIN_IN_SYNC)}
    return {name: [value] if name == "cleanup.policy" else _typed(value) for name, value in sorted(settings.items())}


def _channel(service: str, topic: str) -> AsyncApiDocument:
    return {
        "address": topic,
        "title": f"The events of {service}",
        "description": f"All events that {service} publishes, in the order of its log, and its watermarks.",
        "messages": {
            name: {"$ref": f"#/components/messages/{name}"} for name in _message_names(published_events(service))
        },
        "bindings": {
            "kafka": {
                "topic": topic,
                "partitions": PARTITIONS,
                "replicas": REPLICATION_FACTOR,
                "topicConfiguration": _topic_configuration(),
                "bindingVersion": BINDING_VERSION,
            }
        },
    }


def _typed(value: str) -> Any:
    """Return a number or a truth value for its text, else the text."""
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _operations() -> Iterator[tuple[str, AsyncApiDocument]]:
    for service, parts in SERVICES.items():
        yield (
            f"{service}.send",
            {
                "action": "send",
                "title": f"{service} sends",
                "summary": f"The relay of {service} sends its events, then a watermark; it may send any record again.",
                **_of_channel(service, published_events(service)),
                "tags": [{"name": service}],
            },
        )
        for origin in parts.subscriptions:
            yield (
                f"{service}.receive.{origin}",
                {
                    "action": "receive",
                    "title": f"{service} receives from {origin}",
                    "summary": f"{service} reads the whole topic and stores the events of these names.",
                    **_of_channel(origin, received_events(service, origin)),
                    "tags": [{"name": service}],
                },
            )


def _of_channel(channel: str, events: Iterable[type[Event]]) -> AsyncApiDocument:
    reference = f"#/channels/{channel}"
    return {
        "channel": {"$ref": reference},
        "messages": [{"$ref": f"{reference}/messages/{name}"} for name in _message_names(events)],
    }


def _message_names(events: Iterable[type[Event]]) -> list[str]:
    return [*(event.TYPE for event in events), WATERMARK]


def _message(event: type[Event]) -> AsyncApiDocument:
    docstring = cleandoc(event.__doc__ or "").replace("``", "`")
    return {
        "name": event.TYPE,
        "title": event.NAME,
        "summary": docstring.partition("\n")[0],
        "description": docstring,
        "contentType": CONTENT_TYPE,
        "correlationId": {
            "description": "All events that follow from one command have the same.",
            "location": "$message.payload#/correlationid",
        },
        "headers": _schema_reference(EVENT_HEADERS),
        "payload": _envelope_schema(event),
        "bindings": _message_bindings(
            {"type": "string", "description": f"The event's subject, which is its `{event.SUBJECT_FIELD}`."}
        ),
    }


def _watermark_message() -> AsyncApiDocument:
    return {
        "name": WATERMARK,
        "title": WATERMARK,
        "summary": "All events of the topic at positions up to `popug_watermark` stand before this record.",
        "description": (
            "It comes after each batch of events, and every second if there are none. Its value is empty; other"
            " programs may skip it."
        ),
        "contentType": "application/octet-stream",
        "headers": _schema_reference(WATERMARK_HEADERS),
        "payload": {"type": "string", "maxLength": 0},
        "bindings": _message_bindings({"type": "null", "description": "A watermark has no key."}),
    }


def _message_bindings(key: AsyncApiDocument) -> AsyncApiDocument:
    return {"kafka": {"key": key, "bindingVersion": BINDING_VERSION}}


def _envelope_schema(event: type[Event]) -> AsyncApiDocument:
    """Return the schema of the envelope of an event, with the values that all events of the type share."""
    _, components = msgspec.json.schema_components([Envelope])
    envelope = components[Envelope.__name__]
    envelope.pop("description")
    properties = {name: dict(schema) for name, schema in envelope["properties"].items()}
    for name, value in {
        "specversion": "1.0",
        "type": event.TYPE,
        "source": event.SOURCE,
        "dataschema": event.SCHEMA,
        "datacontenttype": "application/json",
    }.items():
        properties[name] = {"type": "string", "const": value}
    properties["time"] = {"type": "string", "format": "date-time"}
    properties["sequence"] = _position("The event's position in the log of its publisher.")
    properties["data"] = _schema_reference(event.TYPE)
    return {**envelope, "title": event.TYPE, "properties": properties}


def _event_schemas() -> dict[str, AsyncApiDocument]:
    """Return the schemas of all events by type, and the schemas that they share by name.

    They are those of ``all_schemas``, but the references lead to the components of this document.
    """
    components: dict[str, AsyncApiDocument] = {}
    for type_, schema in all_schemas().items():
        here = json.loads(json.dumps(schema).replace("#/$defs/", "#/components/schemas/"))
        definitions = here["$defs"]
        components[type_] = definitions.pop(here["$ref"].rpartition("/")[2])
        components |= definitions
    return components


def _schema_reference(name: str) -> AsyncApiDocument:
    return {"$ref": f"#/components/schemas/{name}"}


def _headers(properties: AsyncApiDocument, optional: tuple[str, ...] = ()) -> AsyncApiDocument:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _event_headers() -> AsyncApiDocument:
    repeated = {
        f"ce_{name}": {"type": "string", "description": f"The attribute `{name}` of the event."}
        for name in REPEATED_ATTRIBUTES
    }
    position = _position("The event's position in the log of its publisher.", minimum=1)
    return {
        "content-type": {"type": "string", "const": CONTENT_TYPE_HEADER},
        **repeated,
        **_log_headers(),
        "popug_sequence": position,
    }


def _watermark_headers() -> AsyncApiDocument:
    includes = (
        "The position up to which the publisher covers the log of each other service, by the name of the service, as"
        " JSON."
    )
    return {
        **_log_headers(),
        "popug_watermark": _position("All events of this topic at positions up to here stand before this record."),
        "popug_includes": {"type": "string", "contentMediaType": "application/json", "description": includes},
    }


def _log_headers() -> AsyncApiDocument:
    return {
        "popug_log": LOG_ID_SCHEMA,
        "popug_previous": _position("The position of the publisher's own event before this; 0 if there is none."),
        "popug_previous_id": {"type": "string", "description": "The id of that event; empty if there is none."},
    }


def _position(description: str, minimum: int = 0) -> AsyncApiDocument:
    pattern = POSITION.pattern if minimum == 0 else POSITION.pattern.partition("|")[2]
    return {"type": "string", "pattern": f"^({pattern})$", "description": description}
