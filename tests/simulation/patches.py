"""The patches that connect the program with the simulation: module attributes, replaced once.

Transactions and the seeds of draws need no patch: the world passes its own through the runtime. The patches wrap
consumers, so that they can fail, and command handlers, so that the ids that they make depend on the command.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from popug_cli import bootstrap
from popug_cli.app import handlers
from popug_cli.bus import consumers as bus_consumers
from popug_cli.bus.consumers import Consumer
from popug_cli.messages.base import Declaration

if TYPE_CHECKING:
    from tests.simulation.world import World

Handler = Callable[[Any, Any], Any]
worlds: "list[World]" = []
installed: list[bool] = []

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
    bootstrap.consumer_of = _consumer_of
    handlers.module_function = _module_function


def _consumer_of(module: str) -> Consumer:
    return worlds[-1].consumer_of(module) if worlds else real_consumer_of(module)


def _module_function(declaration: Declaration) -> Handler:
    handler = real_module_function(declaration)
    if not worlds or not declaration.is_command:
        return handler
    world = worlds[-1]
    return lambda message, context: world.handle(handler, message, context)
