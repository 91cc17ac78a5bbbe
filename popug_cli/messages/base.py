"""Declarations: module, permissions and command line of a message; publisher, version and subject of an event."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args

import msgspec

Answer = TypeVar("Answer")
MessageType = TypeVar("MessageType", bound="type[Message[Any]]")
EventType = TypeVar("EventType", bound="type[Event]")


class Role(StrEnum):
    """The role of a user; a user has one at a time."""

    ADMIN = "admin"
    MANAGER = "manager"
    ACCOUNTANT = "accountant"
    WORKER = "worker"


class Access(StrEnum):
    """The credentials that a message needs: a token, the operator's access to the home, or none."""

    TOKEN = "token"  # noqa: S105 - the word, not a secret
    OPERATOR = "operator"
    PUBLIC = "public"


EVERYONE = frozenset(Role)
SHUFFLERS = frozenset({Role.MANAGER, Role.ADMIN})
ACCOUNTING = frozenset({Role.ACCOUNTANT, Role.ADMIN})
ADMINS = frozenset({Role.ADMIN})
NOT_ASSIGNABLE = frozenset({Role.MANAGER, Role.ADMIN})
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_ANSWER_ROWS = 10_000
MAX_OFFSET = 2**53  # a larger offset selects the same rows, but may not fit into the database's integers
EARLIEST_INSTANT = datetime.min.replace(tzinfo=UTC) + timedelta(days=2)  # every zone has a date for these and between
LATEST_INSTANT = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)


def page_bounds(limit: int | None, offset: int = 0) -> dict[str, int]:
    """Return the ``limit`` and ``offset`` that a query uses: at most ``MAX_ANSWER_ROWS`` rows, also without a limit."""
    return {"limit": min(limit or MAX_ANSWER_ROWS, MAX_ANSWER_ROWS), "offset": min(offset, MAX_OFFSET)}


class Message(msgspec.Struct, Generic[Answer], frozen=True, forbid_unknown_fields=True):
    """A request to a module; ``Answer`` is the type of its result."""

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for an instant without a time zone, or without a date in some time zone."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, datetime):
                _check_instant(name, value)


def _check_instant(name: str, instant: datetime) -> None:
    if instant.utcoffset() is None:
        raise ValueError(f"`{name}` needs a time zone, such as Z or +01:00")
    if not EARLIEST_INSTANT <= instant <= LATEST_INSTANT:
        raise ValueError(f"`{name}` is too near the first or the last day of the calendar")


class Command(Message[Answer], frozen=True):
    """A request that may change something."""


class Query(Message[Answer], frozen=True):
    """A request whose handler changes nothing in the company's data; consumers may run before it is answered."""


class Declaration(msgspec.Struct, frozen=True):
    """The declaration of a message: its module, its command line and the roles that may send it.

    ``roles_for_others`` are the roles that may name another user in the field ``username``; by default they equal
    ``roles``. ``scopes`` limit machine tokens: a token with a scope may send only the messages that have its scope.
    ``handler`` is the module, below ``popug_cli``, of the function that performs the message. A workflow runs several
    transactions. A message is internal if it is in ``messages/internal/``: only handlers of other messages send it.
    """

    message: "type[Message[Any]]"
    module: str
    command_line: str
    access: Access
    roles: frozenset[Role]
    roles_for_others: frozenset[Role]
    scopes: frozenset[str]
    handler: str
    is_workflow: bool = False

    @property
    def is_internal(self) -> bool:
        """Whether only other messages send this one: it has no route and no line among the permissions."""
        return ".internal." in self.message.__module__

    @property
    def name(self) -> str:
        """The name of the handler and of the route: ``complete_task``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.message.__name__).lower()

    @property
    def path(self) -> str:
        """The path of the message's route on a server."""
        return f"/v1/{self.module}/{self.name}"

    @property
    def part_path(self) -> str:
        """The path under which another service of a cluster asks for the message as a part of one that it performs."""
        return f"/v1/parts/{self.module}/{self.name}"

    @property
    def is_command(self) -> bool:
        """Whether the message may change something."""
        return issubclass(self.message, Command)

    @property
    def has_username(self) -> bool:
        """Whether the message has a field ``username``, so that ``roles_for_others`` applies."""
        return "username" in self.message.__struct_fields__

    @property
    def is_secret(self) -> bool:
        """Whether the message has a password or its result a token; neither may be stored."""
        return "password" in self.message.__struct_fields__ or "token" in getattr(self.answer, "__struct_fields__", ())

    @property
    def answer(self) -> Any:
        """The type of the result."""
        return get_args(self.message.__orig_bases__[0])[0]  # type: ignore[attr-defined]


DECLARATIONS: "dict[type[Message[Any]], Declaration]" = {}


def declare(
    command_line: str,
    *,
    roles: frozenset[Role] = frozenset(),
    roles_for_others: frozenset[Role] | None = None,
    access: Access = Access.TOKEN,
    scopes: frozenset[str] = frozenset(),
    handler: str = "",
    is_workflow: bool = False,
) -> Callable[[MessageType], MessageType]:
    """Register a message with its command line and its permissions; the name of its file is its module.

    By default the module's ``commands`` or ``queries`` have its handler.
    """
    assert bool(roles) == (access is Access.TOKEN), "roles belong to messages that need a token"

    def register(message: MessageType) -> MessageType:
        module = message.__module__.rpartition(".")[2]
        default_handler = f"{module}.{'commands' if issubclass(message, Command) else 'queries'}"
        DECLARATIONS[message] = Declaration(
            message,
            module,
            command_line,
            access,
            roles,
            roles if roles_for_others is None else roles_for_others,
            scopes,
            handler or default_handler,
            is_workflow,
        )
        return message

    return register


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fact: immutable, versioned, in the past tense. The class is the shape of ``data``."""

    TYPE: ClassVar[str]
    SCHEMA: ClassVar[str]
    NAME: ClassVar[str]
    VERSION: ClassVar[int]
    SOURCE: ClassVar[str]
    SUBJECT_FIELD: ClassVar[str]

    @property
    def subject(self) -> str:
        """The ordering key: events of one subject are delivered in the order in which they were published."""
        return str(getattr(self, self.SUBJECT_FIELD))


EVENTS: "dict[str, type[Event]]" = {}


def schema_uri(event_type: str) -> str:
    """Return the URI of the JSON Schema of an event type."""
    return f"urn:popug:schema:{event_type}"


def event(publisher: str, version: int, *, subject_field: str) -> Callable[[EventType], EventType]:
    """Register an event with its publisher, its version and the field that is its ordering key."""

    def register(event_class: EventType) -> EventType:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", event_class.__name__).lower().removesuffix(f"_v{version}")
        event_class.NAME, event_class.VERSION, event_class.SUBJECT_FIELD = name, version, subject_field
        event_class.TYPE = f"popug.{publisher}.{name}.v{version}"
        event_class.SCHEMA = schema_uri(event_class.TYPE)
        event_class.SOURCE = f"/popug/{publisher}"
        EVENTS[event_class.TYPE] = event_class
        return event_class

    return register


def declarations() -> Iterator[Declaration]:
    """Yield the declarations of all messages but the internal ones, by module and name."""
    declared = [declaration for declaration in DECLARATIONS.values() if not declaration.is_internal]
    yield from sorted(declared, key=lambda declaration: (declaration.module, declaration.name))


class Nothing(msgspec.Struct, frozen=True):
    """An empty result."""


class ImportResult(msgspec.Struct, frozen=True):
    """The number of lines that were imported, and of those skipped because they had been imported before."""

    imported: int
    skipped: int


Instant = Annotated[datetime, msgspec.Meta(tz=True)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Cents = Annotated[int, msgspec.Meta(gt=0, le=10**15)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Limit = Annotated[int, msgspec.Meta(ge=1)]
