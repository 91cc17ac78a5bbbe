"""How messages are declared: what each is, who may send it, and which command line sends it."""

import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args

import msgspec

Answer = TypeVar("Answer")
MessageType = TypeVar("MessageType", bound="type[Message[Any]]")
EventType = TypeVar("EventType", bound="type[Event]")


class Role(StrEnum):
    """What a person is in the company; one at a time."""

    ADMIN = "admin"
    MANAGER = "manager"
    ACCOUNTANT = "accountant"
    WORKER = "worker"


class Access(StrEnum):
    """What a message needs of its sender."""

    TOKEN = "token"  # noqa: S105 - the word, not a secret
    OPERATOR = "operator"
    PUBLIC = "public"


EVERYONE = frozenset(Role)
SHUFFLERS = frozenset({Role.MANAGER, Role.ADMIN})
ACCOUNTING = frozenset({Role.ACCOUNTANT, Role.ADMIN})
ADMINS = frozenset({Role.ADMIN})
NOT_ASSIGNABLE = frozenset({Role.MANAGER, Role.ADMIN})
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class Message(msgspec.Struct, Generic[Answer], frozen=True, forbid_unknown_fields=True):
    """A request to a module; ``Answer`` is what comes back."""


class Command(Message[Answer], frozen=True):
    """A request that may change something."""


class Query(Message[Answer], frozen=True):
    """A request that changes nothing."""


class Declaration(msgspec.Struct, frozen=True):
    """What is known of a kind of message: its module, its command line and who may send it.

    ``others`` are the roles that may name somebody other than themselves in the field ``username``; for a message
    without that field they are the roles too. ``scopes`` are the scopes of machine tokens that may send it although
    they may send nothing else.
    """

    message: "type[Message[Any]]"
    module: str
    command_line: str
    access: Access
    roles: frozenset[Role]
    roles_for_others: frozenset[Role]
    scopes: frozenset[str]

    @property
    def name(self) -> str:
        """The name of the handler and of the route: ``complete_task``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.message.__name__).lower()

    @property
    def is_command(self) -> bool:
        """Whether it may change something."""
        return issubclass(self.message, Command)

    @property
    def has_username(self) -> bool:
        """Whether it says whom it is about, so that oneself and others make a difference."""
        return "username" in self.message.__struct_fields__

    @property
    def is_secret(self) -> bool:
        """Whether it carries a password or is answered with a token, so that neither may be kept."""
        return "password" in self.message.__struct_fields__ or "token" in getattr(self.answer, "__struct_fields__", ())

    @property
    def answer(self) -> Any:
        """The type of its answer."""
        return get_args(self.message.__orig_bases__[0])[0]  # type: ignore[attr-defined]


DECLARATIONS: "dict[type[Message[Any]], Declaration]" = {}


def declare(
    command_line: str,
    *,
    roles: frozenset[Role] = frozenset(),
    roles_for_others: frozenset[Role] | None = None,
    access: Access = Access.TOKEN,
    scopes: frozenset[str] = frozenset(),
) -> Callable[[MessageType], MessageType]:
    """Say once of a message which command line sends it and who may; its module is the file it stands in."""
    assert bool(roles) == (access is Access.TOKEN), "roles belong to messages that need a token"

    def register(message: MessageType) -> MessageType:
        module = message.__module__.rpartition(".")[2]
        DECLARATIONS[message] = Declaration(
            message,
            module,
            command_line,
            access,
            roles,
            roles if roles_for_others is None else roles_for_others,
            scopes,
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
    """The name of the JSON Schema of an event type."""
    return f"urn:popug:schema:{event_type}"


def event(publisher: str, version: int, *, subject_field: str) -> Callable[[EventType], EventType]:
    """Say once of an event who publishes it, in which version, and which field orders it."""

    def register(shape: EventType) -> EventType:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", shape.__name__).lower().removesuffix(f"_v{version}")
        shape.NAME, shape.VERSION, shape.SUBJECT_FIELD = name, version, subject_field
        shape.TYPE = f"popug.{publisher}.{name}.v{version}"
        shape.SCHEMA = schema_uri(shape.TYPE)
        shape.SOURCE = f"/popug/{publisher}"
        EVENTS[shape.TYPE] = shape
        return shape

    return register


def declarations() -> Iterator[Declaration]:
    """Every declared message, by module and name."""
    yield from sorted(DECLARATIONS.values(), key=lambda declaration: (declaration.module, declaration.name))


class Nothing(msgspec.Struct, frozen=True):
    """The answer where there is nothing to say."""


class ImportResult(msgspec.Struct, frozen=True):
    """What an import did: lines taken, and lines skipped because they had been taken before."""

    imported: int
    skipped: int


Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Cents = Annotated[int, msgspec.Meta(gt=0, le=10**15)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Limit = Annotated[int, msgspec.Meta(ge=1)]
