"""How `--logits` is typed: `dense`, `dense8`, `topk:10`, `none`; behind an @ the temperatures top-k must serve."""

from collections.abc import Sequence

from deit_pipe.stages.console.errors import UsageProblem


def read_logits(text: str) -> tuple[str, tuple[float, ...]]:
    """Read the targets and their temperatures; without any it is temperature 1.

    >>> read_logits("topk:10@1,3")
    ('topk:10', (1.0, 3.0))
    >>> read_logits("dense")
    ('dense', (1.0,))

    The store judges both parts.

    Raises:
        UsageProblem: what is behind the @ is no list of numbers.
    """
    targets, sign, tail = text.partition("@")
    try:
        return targets, tuple(float(part) for part in tail.split(",")) if sign else (1.0,)
    except ValueError as error:
        raise UsageProblem(
            f"--logits {text!r} is not usable",
            expected="numbers, the temperatures, behind the @",
            got=f"{tail!r}",
            cure="give for example --logits topk:10@1,3",
        ) from error


def logits_text(targets: str, taus: Sequence[float]) -> str:
    """Inverse of `read_logits`, the shortest text.

    >>> logits_text("topk:10", (1.0, 3.0))
    'topk:10@1,3'
    """
    if tuple(taus) == (1.0,):
        return targets
    return f"{targets}@{','.join(str(int(tau)) if tau == int(tau) else repr(tau) for tau in taus)}"
