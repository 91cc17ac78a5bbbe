"""A finding of a simulation."""


class Violation(AssertionError):
    """A broken rule; ``name`` is its name in one word."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


def require(holds: bool, name: str, detail: object = "") -> None:
    """Raise a violation unless the condition is true."""
    if not holds:
        raise Violation(name, str(detail))
