"""What a command hands back to the command line, and to whoever calls it from Python."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from deit_pipe.stages.console.facts import Facts

FactsT_co = TypeVar("FactsT_co", bound=Facts, covariant=True)


@dataclass(frozen=True)
class CommandResult(Generic[FactsT_co]):
    """What a command hands back to the command line, and to whoever calls it from Python.

    Attributes:
        text: for a person: plain text, or a rich renderable.
        facts: what was found, a frozen dataclass of the command.
        exit_code: 0 for success; see README "Exit codes".
    """

    text: Any
    facts: FactsT_co
    exit_code: int = 0

    @property
    def data(self) -> dict[str, Any]:
        """The facts as JSON values, as `--json` prints them; keys are stable and documented in the command's help."""
        return self.facts.to_json()
