# ruff: noqa: D102 (the verbs are described in places/location.py)
"""A cache at an fsspec URL. `create` is a conditional PUT (If-None-Match on S3, generation match on GCS)."""

import contextlib
import os
from typing import Any

from deit_pipe.store.errors import FormatInvalid
from deit_pipe.store.places.location import Location, ObjectExists, ObjectMissing


class RemoteObjects(Location):
    """Objects below an fsspec URL. The file system is opened again after a fork: most are not fork-safe."""

    local = False

    def __init__(self, url: str) -> None:
        self.path = url.rstrip("/")
        self._process = -1
        self._fs: Any = None
        self._root = ""
        self._connect()

    def __getstate__(self) -> str:
        return self.path

    def __setstate__(self, state: str) -> None:
        self.__init__(state)  # type: ignore[misc]

    def _connect(self) -> Any:
        if self._process != os.getpid():
            try:
                import fsspec

                self._fs, self._root = fsspec.core.url_to_fs(self.path, skip_instance_cache=True)
            except (ImportError, ValueError) as error:
                raise FormatInvalid(
                    f"cannot open {self.path}: {error}",
                    cure="install the package for this kind of address, for example: pip install 's3fs'",
                ) from error
            self._process = os.getpid()
        return self._fs

    def _address(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root

    def get(self, key: str) -> bytes:
        try:
            return bytes(self._connect().cat_file(self._address(key)))
        except FileNotFoundError:
            raise ObjectMissing(key) from None

    def put(self, key: str, data: bytes) -> None:
        self._connect().pipe_file(self._address(key), data)

    def create(self, key: str, data: bytes) -> None:
        try:
            self._connect().pipe_file(self._address(key), data, mode="create")
        except FileExistsError:
            raise ObjectExists(key) from None
        except OSError as error:  # s3fs passes 412 on as a plain OSError
            if "precondition" in str(error).lower() or "412" in str(error):
                raise ObjectExists(key) from None
            raise

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._connect().rm_file(self._address(key))

    def delete_tree(self, prefix: str) -> None:
        fs = self._connect()
        fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            fs.rm(self._address(prefix), recursive=True)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        fs = self._connect()
        fs.invalidate_cache()
        try:
            found = fs.find(self._address(prefix), detail=True)
        except FileNotFoundError:
            return {}
        cut = len(self._root) + 1
        return {name[cut:]: int(entry["size"]) for name, entry in found.items() if name[cut:]}

    def size(self, key: str) -> int | None:
        fs = self._connect()
        fs.invalidate_cache()
        try:
            entry = fs.info(self._address(key))
            return int(entry["size"]) if entry["type"] == "file" else None
        except FileNotFoundError:
            return None
