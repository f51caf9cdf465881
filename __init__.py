"""deit-pipe: run the teacher once, train every DeiT student from its cached answers on exactly the same views."""

__version__ = "0.2.0"


class DeitPipeError(Exception):
    """Base of everything that a user can cure; any other exception is a bug and keeps its traceback.

    The message says what and where in its first line, then what was expected and got, then the command or option
    that cures it.

    Attributes:
        exit_code: what the command line ends with; see README "Exit codes".
    """

    exit_code = 1
