"""The JSON Schemas of the events, derived from their declarations."""

from typing import Any

import msgspec

from popug_cli.messages import billing, bus, identity, mail, tasks
from popug_cli.messages.base import EVENTS, schema_uri

PUBLISHERS = (billing, bus, identity, mail, tasks)
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def all_schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of every version of every event, by its full type."""
    return {type_: schema_of(type_) for type_ in sorted(EVENTS)}


def schema_of(event_type: str) -> dict[str, Any]:
    """Return the JSON Schema of the data of one event type."""
    return {"$schema": DIALECT, "$id": schema_uri(event_type)} | msgspec.json.schema(EVENTS[event_type])
