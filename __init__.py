"""deit-pipe: run the teacher once, train every DeiT student from its cached answers on exactly the same views."""

from collections.abc import Sequence

__version__ = "0.2.0"


class DeitPipeError(Exception):
    """Base of everything that a user can cure; any other exception is a bug and keeps its traceback.

    Its text is laid out in one way: what and where in the first line, what was expected and what was there instead,
    details, and last the command or option that cures it. A text that has lines already is kept as it is.

    Attributes:
        exit_code: what the command line ends with; see README "Exit codes".
        what: what is wrong, and where; one line.
        expected, got: None where the first line says it.
        details: further lines.
        cure: None where there is nothing to be done but to read.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        expected: object = None,
        got: object = None,
        details: Sequence[str] = (),
        cure: str | None = None,
    ) -> None:
        self.expected, self.got = (None if part is None else str(part) for part in (expected, got))
        self.what, *more = what.split("\n")
        self.details, self.cure = (*more, *details), cure
        # a single argument, so that an error can be sent from one process to another
        super().__init__(lay_out(what, self.expected, self.got, details, cure))

    def to_json(self) -> dict[str, object]:
        """The parts, as JSON values."""
        return {
            "what": self.what,
            "expected": self.expected,
            "got": self.got,
            "details": [line.strip() for line in self.details],
            "cure": self.cure,
            "exit_code": self.exit_code,
        }


def lay_out(what: str, expected: str | None, got: str | None, details: Sequence[str], cure: str | None) -> str:
    """The text of an error: parts under the first line are indented and aligned, the cure stands by itself."""
    lines = [what]
    if expected is not None:
        lines.append(f"  expected  {expected}")
    if got is not None:
        lines.append(f"  got       {got}")
    lines += [f"  {line}" for line in details]
    return "\n".join([*lines, *([cure] if cure is not None else [])])
