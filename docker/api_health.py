"""Exit 0 when the API of this container answers 200 on /readyz, 1 with the answer otherwise."""

import http.client
import os
import sys

PORT = int(os.environ.get("STOCKPOT_PORT", "8080"))


def fault() -> str | None:
    """What is wrong, or None. Not urllib: it would ask the proxy that HTTP_PROXY names."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=4)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer on port {PORT}: {error}"
    finally:
        connection.close()
    return None if answer.status == http.HTTPStatus.OK else f"/readyz answered {answer.status} {answer.reason}"


sys.exit(fault())
