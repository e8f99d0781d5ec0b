"""Exit 0 when a worker of this container is registered in Redis, 1 with the reason otherwise.

RQ keeps a worker's record only while its heartbeat goes on, so a record that names this host is a live worker.
"""

import os
import socket
import sys

from redis import Redis
from redis.exceptions import RedisError
from rq import Worker


def fault() -> str | None:
    """What is wrong, or None."""
    try:
        connection = Redis.from_url(os.environ["REDIS_URL"], socket_timeout=4)
        hosts = {worker.hostname for worker in Worker.all(connection=connection)}
    except RedisError as error:
        return f"Redis does not answer: {error}"
    return None if socket.gethostname() in hosts else f"no worker of {socket.gethostname()} is registered"


sys.exit(fault())
