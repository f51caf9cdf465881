"""What a command hands back to the command line."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CommandResult:
    """What a command hands back to the command line.

    Attributes:
        text: for a person: plain text, or a rich renderable.
        data: the same facts as JSON values, for `--json`; keys are stable and documented in the command's help.
        exit_code: 0 for success; see README "Exit codes".
    """

    text: Any
    data: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0
