"""For building only: a wheel whose native engine could not be built is tagged for every platform.

setuptools decides about the tag from the extensions that are declared, before it knows which could be compiled.
"""

from __future__ import annotations

from pathlib import Path

from setuptools.command.bdist_wheel import bdist_wheel


class TaggedWheel(bdist_wheel):
    """The command `bdist_wheel`, with a tag that follows from what is in the wheel."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return (python, abi, platform): "py3", "none", "any" without the engine."""
        built = [path for path in Path(self.bdist_dir).rglob("_views*") if path.suffix in (".so", ".pyd")]
        self.root_is_pure = not built
        tag: tuple[str, str, str] = super().get_tag()
        return tag
