"""The patches that connect the program with the simulation: module attributes, replaced once.

The program has no code for the simulation. The running world observes the start and the end of transactions, wraps
consumers and command handlers, and gives each relevant draw its own purpose.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from popug_cli import bootstrap
from popug_cli.app import handlers
from popug_cli.billing import closing, days, prices
from popug_cli.bus import consumers as bus_consumers
from popug_cli.bus import context
from popug_cli.bus.consumers import Consumer
from popug_cli.messages.base import Declaration
from popug_cli.storage.engine import transaction, write_transaction
from popug_cli.tasks import consumers as tasks_consumers
from popug_cli.tasks import shuffles
from popug_cli.tasks.assignments import reassign_unassignable
from tests.simulation import thin

if TYPE_CHECKING:
    from tests.simulation.world import World

Handler = Callable[[Any, Any], Any]
worlds: "list[World]" = []
installed: list[bool] = []

real_transaction = transaction
real_write_transaction = write_transaction
real_consumer_of = bootstrap.consumer_of
real_module_function = handlers.module_function
real_batch_events = bus_consumers.BATCH_EVENTS


@contextmanager
def living_in(world: "World") -> Iterator[None]:
    """Run the program in a world within the block."""
    install()
    worlds.append(world)
    try:
        yield
    finally:
        worlds.pop()
        bus_consumers.BATCH_EVENTS = real_batch_events


def install() -> None:
    """Apply the patches, once per process; outside a world the program is unchanged."""
    if installed:
        return
    installed.append(True)
    context.transaction = _transaction  # type: ignore[attr-defined,assignment]
    context.write_transaction = _write_transaction  # type: ignore[attr-defined,assignment]
    bootstrap.consumer_of = _consumer_of
    handlers.module_function = _module_function
    prices._draw = _for_purpose(prices._draw, lambda task_id, *_: ("price", task_id, worlds[-1].price_times(task_id)))
    shuffles.run_shuffle = _for_purpose(shuffles.run_shuffle, lambda request, *_: ("shuffle", request.id))
    tasks_consumers.reassign_unassignable = _for_purpose(  # type: ignore[attr-defined]
        reassign_unassignable, lambda cause, *_: ("orphans", cause.id)
    )
    closing.close_next = _for_purpose(
        closing.close_next, lambda _, context: ("close", worlds[-1].place_in_plan, days.first_open(context))
    )
    thin.remember_statements()


def _transaction(engine: Any, *, writes: bool) -> AbstractContextManager[Any]:
    assert not writes
    return worlds[-1].reading(engine) if worlds else real_transaction(engine, writes=False)


def _write_transaction(engine: Any) -> AbstractContextManager[tuple[Any, ExitStack]]:
    return worlds[-1].writing(engine) if worlds else real_write_transaction(engine)


def _consumer_of(module: str) -> Consumer:
    return worlds[-1].consumer_of(module) if worlds else real_consumer_of(module)


def _module_function(declaration: Declaration) -> Handler:
    handler = real_module_function(declaration)
    if not worlds or not declaration.is_command:
        return handler
    world = worlds[-1]
    return lambda message, context: world.handle(handler, message, context)


def _for_purpose(function: Callable[..., Any], names: Callable[..., tuple[object, ...]]) -> Callable[..., Any]:
    def drawing(*arguments: Any) -> Any:
        if not worlds:
            return function(*arguments)
        with worlds[-1].chance.purpose(*names(*arguments)):
            return function(*arguments)

    return drawing
