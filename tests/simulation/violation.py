"""What a simulation finds."""


class Violation(AssertionError):
    """Something that must hold does not; ``name`` says what in one word."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


def require(holds: bool, name: str, detail: object = "") -> None:
    """Raise a violation unless it holds."""
    if not holds:
        raise Violation(name, str(detail))
