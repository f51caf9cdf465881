# ruff: noqa: D102 (the verbs are described in places/location.py)
"""A cache at the URL of an object store, by obstore: conditional requests, retry with backoff, paged listings.

Credentials, region and endpoint are taken from the environment, as the store's own tools do (`AWS_...`, `GOOGLE_...`).
"""

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from deit_pipe.store.errors import FormatInvalid, StoreUnreachable
from deit_pipe.store.places.location import Location, ObjectExists, ObjectMissing, Seen

TIMEOUT = timedelta(seconds=60)
RETRY = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=180),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=20), "base": 2},
}


class RemoteObjects(Location):
    """Objects below a URL. The connection is opened again after a fork."""

    local = False

    def __init__(self, url: str, environment: Mapping[str, str] = os.environ) -> None:
        """Connect to `url`; `environment` says where the store is and who asks."""
        self.path = url.rstrip("/")
        self._environment = environment
        self._process = -1
        self._store: Any = None
        self._connect()

    def __reduce__(self) -> tuple[type["RemoteObjects"], tuple[str]]:
        return type(self), (self.path,)

    def _connect(self) -> Any:
        if self._process != os.getpid():
            try:
                from obstore.store import from_url
            except ImportError as error:
                raise FormatInvalid(
                    f"cannot open {self.path}: caches at a URL need the package obstore",
                    cure="install it with: pip install 'deit-pipe[remote]'",
                ) from error
            endpoint = self._environment.get("AWS_ENDPOINT_URL", "")
            plain = {"allow_http": True} if endpoint.startswith("http://") else {}
            options: dict[str, Any] = {"client_options": {"timeout": TIMEOUT, **plain}, "retry_config": RETRY}
            try:
                self._store = from_url(self.path, **options, **self._options())
            except Exception as error:  # what it raises for an address it does not know has no common class
                raise FormatInvalid(
                    f"cannot open {self.path}: {str(error).splitlines()[0]}",
                    cure="give a folder, or a URL that begins with s3://, gs:// or az://",
                ) from error
            self._process = os.getpid()
        return self._store

    def _options(self) -> dict[str, Any]:
        """What the environment of the usual S3 tools says and obstore does not read by itself."""
        if not self.path.startswith("s3://"):
            return {}
        names = {"endpoint": "AWS_ENDPOINT_URL", "region": "AWS_DEFAULT_REGION"}
        return {option: self._environment[name] for option, name in names.items() if self._environment.get(name)}

    def _ask(self, request: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """One request; what nobody here can answer becomes one error.

        Raises:
            ObjectMissing, ObjectExists: the two answers that are expected. StoreUnreachable: anything else.
        """
        from obstore import exceptions

        try:
            return request(self._connect(), *arguments, **options)
        except (FileNotFoundError, exceptions.NotFoundError):
            raise ObjectMissing(str(arguments[0])) from None
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise ObjectExists(str(arguments[0])) from None
        except exceptions.BaseError as error:
            raise StoreUnreachable(
                f"{self.path} cannot be used: {str(error).strip().splitlines()[0][:300]}",
                cure="check the address, the network and the credentials, and give the same command again; it resumes",
            ) from error

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        import obstore

        if start == 0 and stop is None:
            return bytes(self._ask(obstore.get, key).bytes())
        end = stop if stop is not None else 2**62
        return bytes(self._ask(obstore.get_range, key, start=start, end=end))

    def see(self, key: str) -> Seen | None:
        import obstore

        try:
            found = self._ask(obstore.get, key)
        except ObjectMissing:
            return None
        version = {name: value for name in ("e_tag", "version") if (value := found.meta.get(name)) is not None}
        return Seen(bytes(found.bytes()), version)

    def put(self, key: str, data: bytes) -> None:
        self._write(key, data, "overwrite")

    def create(self, key: str, data: bytes) -> None:
        self._write(key, data, "create")

    def swap(self, key: str, seen: Seen, data: bytes) -> bool:
        try:
            self._write(key, data, seen.version)
        except (ObjectExists, ObjectMissing):
            return False
        return True

    def _write(self, key: str, data: bytes, mode: Any) -> None:
        import obstore

        # one request: parts of a larger upload cannot be conditional everywhere
        self._ask(obstore.put, key, data, mode=mode, use_multipart=False)

    def delete(self, key: str) -> None:
        import obstore

        try:
            self._ask(obstore.delete, key)
        except ObjectMissing:
            return

    def delete_tree(self, prefix: str) -> None:
        for key in self.sizes(prefix):
            self.delete(key)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        import obstore

        found = self._ask(obstore.list, f"{prefix}/" if prefix else None)
        start = f"{prefix}/" if prefix else ""
        return {
            entry["path"]: int(entry["size"]) for page in found for entry in page if entry["path"].startswith(start)
        }

    def size(self, key: str) -> int | None:
        import obstore

        try:
            return int(self._ask(obstore.head, key)["size"])
        except ObjectMissing:
            return None
