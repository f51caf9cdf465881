"""Errors of the system, the network and object stores: words, exit code, cure."""

import errno
import os
import pickle
import socket
import ssl

import pytest

from deit_pipe.stages.console.system_errors import as_problem


def theirs(module: str, name: str, base: type[Exception] = Exception) -> type[Exception]:
    """A class as a library has it."""
    return type(name, (base,), {"__module__": module})


BOTO = theirs("botocore.exceptions", "BotoCoreError")
CASES: list[tuple[BaseException, int, str, str]] = [
    (OSError(errno.ENOSPC, "x", "/a b"), 3, "no space left for '/a b'", "free some space"),
    (OSError(errno.ENOSPC, "x"), 3, "no space left for a file", "df -h"),
    (OSError(errno.EDQUOT, "x", "/a"), 3, "your quota", "quota -s"),
    (OSError(errno.EROFS, "x", "/a"), 2, "/a is on a file system that is read-only", "--cache"),
    (PermissionError(errno.EACCES, "x", "/a"), 2, "no permission for /a", "owner"),
    (OSError(errno.EIO, "x", "/a"), 5, "the device of /a failed", "--verify hash"),
    (OSError(errno.ESTALE, "x", "/a"), 3, "stale handle", "mount it again"),
    (OSError(errno.EXDEV, "x", "/a", None, "/b"), 2, "another file system", "on one"),
    (OSError(errno.EINVAL, "x", "/a"), 2, "cannot do what /a needs", "local disk"),
    (IsADirectoryError(errno.EISDIR, "x", "/a"), 2, "/a is a folder", "another name"),
    (NotADirectoryError(errno.ENOTDIR, "x", "/a/b"), 2, "a part of the path /a/b is a file", "another name"),
    (FileExistsError(errno.EEXIST, "x", "/a"), 2, "/a is a file; a folder is needed", "move it away"),
    (OSError(errno.EMFILE, "x", "/a"), 3, "too many files", "ulimit -n"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "x"), 3, "cannot be reached", "mend the connection"),
    (TimeoutError("timed out"), 3, "cannot be reached", "mend"),
    (socket.gaierror(-2, "Name or service not known"), 3, "cannot be reached", "mend"),
    (ssl.SSLError("CERTIFICATE_VERIFY_FAILED"), 3, "certificate", "AWS_CA_BUNDLE"),
    (theirs("botocore.exceptions", "NoCredentialsError", BOTO)("Unable"), 3, "no credentials", "AWS_PROFILE"),
    (theirs("botocore.exceptions", "EndpointConnectionError", BOTO)("Could"), 3, "cannot be reached", "mend"),
    (theirs("botocore.exceptions", "ClientError")("SlowDown"), 3, "the object store refuses", "what it says"),
    (theirs("obstore.exceptions", "UnauthenticatedError")("401"), 3, "no credentials", "AWS_PROFILE"),
    (theirs("obstore.exceptions", "PermissionDeniedError")("403"), 2, "permits no access", "credentials"),
    (theirs("obstore.exceptions", "GenericError")("error sending request"), 3, "cannot be reached", "mend"),
    (theirs("obstore.exceptions", "GenericError")("507"), 3, "the object store refuses", "what it says"),
    (theirs("aiohttp.client_exceptions", "ClientConnectorError", OSError)("dns"), 3, "cannot be reached", "mend"),
    (PermissionError("Access Denied"), 2, "permits no access", "credentials"),
    (FileNotFoundError("The specified bucket does not exist"), 3, "is not there", "name what is there"),
    (OSError("[Errno 28] Error writing bytes to file"), 3, "no space left", "free some"),
]


@pytest.mark.parametrize(("error", "code", "what", "cure"), CASES, ids=[type(case[0]).__name__ for case in CASES])
def test_words_exit_code_and_cure(error: BaseException, code: int, what: str, cure: str) -> None:
    problem = as_problem(error)
    assert problem is not None
    assert (problem.exit_code, problem.what.count("\n")) == (code, 0)
    assert what in problem.what
    assert cure in str(problem.cure)
    if not getattr(error, "filename", None):
        assert str(error).splitlines()[0] in str(problem)  # what the library said is not lost
    there = pickle.loads(pickle.dumps(problem))
    assert (str(there), there.exit_code) == (str(problem), code)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("x"),
        OSError("no number at all"),
        OSError(errno.EINVAL, "seek"),
        theirs("torch", "OutOfMemoryError", RuntimeError)("x"),
    ],
    ids=str,
)
def test_a_bug_stays_a_bug(error: BaseException) -> None:
    assert as_problem(error) is None


def test_every_errno_that_is_spoken_of_is_one_of_this_system() -> None:
    for number in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE, errno.EXDEV, errno.EINVAL):
        problem = as_problem(OSError(number, os.strerror(number), "/x"))
        assert problem is not None
        assert "/x" in problem.what
