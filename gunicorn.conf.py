"""gunicorn for Hubbub: `gunicorn -c gunicorn.conf.py`, or `make run-gunicorn`.

Where and how many comes from Hubbub's own settings (HOST, PORT, WORKERS; see docs/settings.md). What is set here can be
changed here or on gunicorn's command line.
"""

import os

from hubbub.config import SEVERAL_TAKE, load

settings = load()

wsgi_app = "hubbub.asgi:app"
worker_class = "hubbub.gunicorn_worker.HubbubWorker"
bind = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"

# A worker is a process with a loop of its own. Several take a store and a queue that lie outside of them.
workers = settings.workers or (2 * (os.cpu_count() or 1) + 1 if settings.shareable else 1)

# HTTP connections of each worker, WebSockets and event streams among them; HUBBUB_HTTP_CONNECTIONS for another number.
worker_connections = settings.http_connections or 1000

# Seconds a worker may stand still before it is killed. It says every second that it does not, so streams may take long.
timeout = 30

# Seconds a worker may take to let everybody go: what is being said and written is finished within ten.
graceful_timeout = 20

# Seconds an idle connection is kept for a next request; behind a proxy for longer than the proxy keeps it.
keepalive = 75 if settings.behind_proxy else 2

# A socket to control a running gunicorn, which nothing here needs.
control_socket_disable = True


def on_starting(server) -> None:  # type: ignore[no-untyped-def]
    if server.cfg.workers == 1 and not settings.shareable:
        server.log.info("One worker: %s", SEVERAL_TAKE)
