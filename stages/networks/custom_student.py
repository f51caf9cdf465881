"""How a student of your own sizes is typed: `custom:64x3x2/8` is width x depth x heads, patches of 8 px. No torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from deit_pipe.stages.console.errors import UsageProblem

CUSTOM = "custom"
TYPED = re.compile(r"custom(?::([1-9]\d{0,4})x([1-9]\d{0,3})x([1-9]\d{0,3}))?(?:/([1-9]\d{0,3}))?")


@dataclass(frozen=True)
class CustomSizes:
    """Sizes of a distilled vision transformer.

    Attributes:
        width: of a token.
        depth: blocks.
        heads: of attention; must divide the width.
        patch_size: side in pixels; None: a quarter of the view.
    """

    width: int = 64
    depth: int = 3
    heads: int = 2
    patch_size: int | None = None


def is_custom(student: str) -> bool:
    """Whether the name is `custom`, with sizes or without."""
    return re.match(r"custom([:/]|$)", student) is not None


def read_custom(student: str, otherwise: CustomSizes | None = None) -> CustomSizes:
    """Sizes from `custom`, `custom:WxDxH`, `custom:WxDxH/P` or `custom/P`; what is not said is as `otherwise`.

    Raises:
        UsageProblem: typed in another way.
    """
    otherwise = otherwise or CustomSizes()
    found = TYPED.fullmatch(student)
    if found is None:
        raise UsageProblem(
            f"--student {student!r} does not say its sizes as they are typed",
            expected="custom:WIDTHxDEPTHxHEADS, or with /PATCH behind it",
            cure="give for example --student custom:64x3x2 or --student custom:64x3x2/8",
        )
    width, depth, heads, patch = (None if part is None else int(part) for part in found.groups())
    return CustomSizes(
        width or otherwise.width,
        depth or otherwise.depth,
        heads or otherwise.heads,
        patch or otherwise.patch_size,
    )


def custom_text(sizes: CustomSizes) -> str:
    """The shortest name of these sizes: inverse of `read_custom`."""
    usual = CustomSizes()
    own = (sizes.width, sizes.depth, sizes.heads)
    middle = "" if own == (usual.width, usual.depth, usual.heads) else ":" + "x".join(map(str, own))
    return f"{CUSTOM}{middle}" + (f"/{sizes.patch_size}" if sizes.patch_size else "")


def custom_sizes(sizes: Mapping[str, int]) -> CustomSizes:
    """Sizes as `student.json` and exports have them; the usual ones where there are none."""
    if not sizes:
        return CustomSizes()
    return CustomSizes(*(sizes[name] for name in ("embed_dim", "depth", "num_heads", "patch_size")))
