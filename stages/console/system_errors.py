"""What the operating system, the network and object stores refuse, as errors with an exit code and a cure.

The one place for it: whatever a command was doing, `as_problem` finds the words. Errors that are not in the tables
are bugs and keep their traceback.
"""

import errno
import os
import re
import shlex
from typing import NamedTuple

from deit_pipe.stages.console.errors import SystemProblem


class Words(NamedTuple):
    """What is said of an errno; `{at}` is the file, or `a file`."""

    exit_code: int
    what: str
    cure: str


AGAIN = "then give the same command again; it goes on from what is whole"
ELSEWHERE = "write elsewhere (--out, --cache)"
MENDED = f"mend the connection, {AGAIN}"

_WORDS: dict[int, Words] = {
    errno.ENOSPC: Words(3, "no space left for {at}", f"free some space (df -h, df -i), {AGAIN}"),
    errno.EDQUOT: Words(3, "your quota has no space left for {at}", f"free some space (quota -s), {AGAIN}"),
    errno.EFBIG: Words(3, "the file system takes no file as large as {at}", ELSEWHERE),
    errno.EROFS: Words(2, "{at} is on a file system that is read-only", f"mount it for writing, or {ELSEWHERE}"),
    errno.EACCES: Words(2, "no permission for {at}", f"ask its owner (ls -ld), or {ELSEWHERE}"),
    errno.EPERM: Words(2, "the system does not permit this with {at}", f"ask its owner (ls -ld), or {ELSEWHERE}"),
    errno.EIO: Words(
        5,
        "the device of {at} failed to read or to write",
        "look what it says (dmesg), copy what can be read; prove a cache with: deit-pipe inspect-cache --verify hash",
    ),
    errno.ESTALE: Words(3, "the file server does not know {at} any more (stale handle)", f"mount it again, {AGAIN}"),
    errno.EXDEV: Words(2, "{at} would have to move to another file system", f"keep a whole folder on one, {ELSEWHERE}"),
    errno.EINVAL: Words(2, "the file system cannot do what {at} needs", f"{ELSEWHERE}, on a local disk for example"),
    errno.ENOTSUP: Words(2, "the file system cannot do what {at} needs", f"{ELSEWHERE}, on a local disk for example"),
    errno.ENOLCK: Words(3, "no lock can be had on {at}", f"{ELSEWHERE}, on a file system with POSIX locks"),
    errno.EISDIR: Words(2, "{at} is a folder; a file is needed", "give another name"),
    errno.ENOTDIR: Words(2, "a part of the path {at} is a file, not a folder", "give another name"),
    errno.EEXIST: Words(2, "{at} is a file; a folder is needed", "give another name, or move it away"),
    errno.ENOENT: Words(3, "{at} is not there", f"restore it, or name what is there, {AGAIN}"),
    errno.ELOOP: Words(2, "{at} is a link, which is not followed here", "put the file itself in its place"),
    errno.ENAMETOOLONG: Words(2, "the path {at} is too long for the file system", "give a shorter name"),
    errno.ENXIO: Words(5, "{at} is no file", "remove it, or restore the file from a copy"),
    errno.EBUSY: Words(3, "{at} is in use", f"wait for whoever uses it, {AGAIN}"),
    errno.ETXTBSY: Words(3, "{at} is in use", f"wait for whoever uses it, {AGAIN}"),
    errno.EMFILE: Words(3, "too many files are open at {at}", f"allow more (ulimit -n 65536), {AGAIN}"),
    errno.ENFILE: Words(3, "too many files are open on this machine, at {at}", f"wait, {AGAIN}"),
    errno.ENOMEM: Words(3, "no memory left at {at}", f"free some, or use fewer --workers, {AGAIN}"),
    **dict.fromkeys(
        (
            errno.ETIMEDOUT,
            errno.ECONNREFUSED,
            errno.ECONNRESET,
            errno.ECONNABORTED,
            errno.ENETUNREACH,
            errno.ENETDOWN,
            errno.EHOSTUNREACH,
            errno.EHOSTDOWN,
            errno.EPIPE,
        ),
        Words(3, "{at} cannot be reached", MENDED),
    ),
}
# Errors without an errno, by the names of their classes: Python's and those of libraries for object stores.
_CLASSES: dict[str, Words] = {
    **dict.fromkeys(
        (
            "NoCredentialsError",
            "PartialCredentialsError",
            "CredentialRetrievalError",
            "TokenRetrievalError",
            "DefaultCredentialsError",
            "UnauthenticatedError",
        ),
        Words(
            3,
            "no credentials for the object store",
            "log in as its own tools want it (AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, gcloud auth "
            f"application-default login), {AGAIN}",
        ),
    ),
    **dict.fromkeys(
        ("PermissionDeniedError", "PermissionError"),
        Words(2, "the object store permits no access to {at}", "ask its owner, or use other credentials"),
    ),
    **dict.fromkeys(
        (
            "gaierror",
            "TimeoutError",
            "ConnectionError",
            "EndpointConnectionError",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ConnectionClosedError",
            "HTTPClientError",
            "ClientConnectionError",
            "LocalEntryNotFoundError",
        ),
        Words(3, "{at} cannot be reached", MENDED),
    ),
    "FileNotFoundError": Words(3, "{at} is not there", "name what is there"),
    "ClientError": Words(3, "the object store refuses", "do what it says"),
    "SSLError": Words(3, "{at} has a certificate that cannot be trusted", "set AWS_CA_BUNDLE or SSL_CERT_FILE"),
}
_MAY_BE_BUGS = {errno.ENOENT, errno.EINVAL}  # unless they name a file
_STORE_LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "obstore", "fsspec", "google")
_UNREACHED = re.compile(r"sending request|connect|timed? ?out|dns|resolve", re.IGNORECASE)
_NUMBER = re.compile(r"\[?errno (\d+)\]?|\(os error (\d+)\)", re.IGNORECASE)


def as_problem(error: BaseException) -> SystemProblem | None:
    """An error of the system in our words; None for everything else."""
    words = _words(error)
    if words is None:
        return None
    at = getattr(error, "filename", None)
    said = str(error).strip().splitlines() or [type(error).__name__]
    details = [] if at is not None and isinstance(error, OSError) else [said[0][:300]]
    place = (
        shlex.quote(os.fsdecode(at)) if isinstance(at, str | bytes) else "a file" if _is_local(error) else "the store"
    )
    return SystemProblem(words.what.format(at=place), words.exit_code, details=tuple(details), cure=words.cure)


def _words(error: BaseException) -> Words | None:
    if isinstance(error, OSError):
        number = error.errno if isinstance(error.errno, int) else _number_in(str(error))
        if number in _WORDS and not (number in _MAY_BE_BUGS and error.filename is None):
            return _WORDS[number]
    kinds = [kind.__name__ for kind in type(error).__mro__]
    theirs = any(kind.__module__.partition(".")[0] in _STORE_LIBRARIES for kind in type(error).__mro__)
    if isinstance(error, OSError) or theirs:
        for kind in kinds:
            if kind in _CLASSES:
                return _CLASSES[kind]
    if theirs:
        unreached = _UNREACHED.search(str(error)) is not None
        return Words(3, "{at} cannot be reached", MENDED) if unreached else _CLASSES["ClientError"]
    return None


def _number_in(text: str) -> int | None:
    """The errno that a library wrote into its text (pyarrow, safetensors)."""
    found = _NUMBER.search(text)
    return int(found[1] or found[2]) if found is not None else None


def _is_local(error: BaseException) -> bool:
    return isinstance(error, OSError) and isinstance(error.errno, int) and type(error).__module__ == "builtins"
