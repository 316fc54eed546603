"""An application over HTTP on this machine, in a thread of this process: what twins and stand-ins are reached through."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from headwater.errors import UsageError


@contextmanager
def served(app: Starlette, what: str, *, port: int = 0) -> Iterator[str]:
    """The application on loopback while inside; gives its address, like http://127.0.0.1:54321. Port 0: any that is free.

    Raises UsageError, in the name of `what`, when somebody else has the port.
    """
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            place.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"the {what} cannot listen on port {port}: {error.strerror}. Choose another with --port"
            ) from error
        running = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off", ws="none"))
        thread = threading.Thread(target=running.run, args=([place],), daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{place.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join(timeout=10)
