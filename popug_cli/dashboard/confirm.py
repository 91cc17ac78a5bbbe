"""Confirmation dialog before an action that cannot be undone."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from popug_cli.dashboard.text import plain, wrapped


class Confirm(ModalScreen[bool]):
    """A yes-or-no question; only ``y`` confirms."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,enter,q", "answer(False)", "No"),
    ]

    def __init__(self, question: str, *, only_ascii: bool) -> None:
        super().__init__(classes="ascii" if only_ascii else "")
        self.question = question

    def compose(self) -> ComposeResult:
        """Lay out the question and its answers."""
        with Vertical(id="question"):
            yield Static(wrapped(self.question))
            yield Static(plain("y: yes    n: no", style="bold"), id="answers")

    def action_answer(self, is_confirmed: bool) -> None:
        """Close the dialog with the answer."""
        self.dismiss(is_confirmed)
