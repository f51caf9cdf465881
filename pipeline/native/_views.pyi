from collections.abc import Buffer

SPEC_LAYOUT: int

def render_into(
    instructions: str, pixels: Buffer, views: list[bytes], rows: list[int], out: Buffer, /
) -> None: ...
def instruction_sets() -> tuple[str, ...]: ...
