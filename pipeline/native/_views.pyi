import numpy as np
from numpy.typing import NDArray

SPEC_LAYOUT: int

def render_into(
    instructions: str,
    pixels: NDArray[np.uint8],
    views: list[bytes],
    rows: list[int],
    out: NDArray[np.uint8],
    /,
) -> None: ...
def instruction_sets() -> tuple[str, ...]: ...
