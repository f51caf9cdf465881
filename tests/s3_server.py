"""An object store for tests: moto's S3 server in its own process, on loopback.

    python tests/s3_server.py        prints its port, and serves until it is ended

Requests come in on many connections and are done one at a time, each only when its whole body is there: moto by itself
looks whether an object is there and then writes it, so that two that ask at once could both create it, and it stores
what has come of an upload whose sender died. No store of this protocol does either.
"""

import contextlib
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from typing import Any

BUCKET = "caches"


@contextlib.contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Serve a bucket `caches`; yields the environment in which the program finds it."""
    command = [sys.executable, "-W", "ignore", __file__]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        with server.stdout as said:
            url = f"http://127.0.0.1:{int(said.readline())}"
        request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=60).close()
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        server.terminate()
        server.wait()


def one_at_a_time(application: Any) -> Any:
    """A WSGI application that does the requests of `application` as a whole and one after the other."""
    alone = threading.Lock()

    def serve(environment: dict[str, Any], start: Any) -> Any:
        length = int(environment.get("CONTENT_LENGTH") or 0)
        body = environment["wsgi.input"].read(length)
        if len(body) != length:
            start("400 Bad Request", [])
            return []
        environment["wsgi.input"] = BytesIO(body)
        with alone:
            return [b"".join(application(environment, start))]

    return serve


def main() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = one_at_a_time(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while os.getppid() != 1:  # whoever started it may be killed
        threading.Event().wait(1.0)


if __name__ == "__main__":
    main()
