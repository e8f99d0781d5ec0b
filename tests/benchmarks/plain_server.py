"""What the transfers are held against: a file as Starlette serves it by itself, and a body put into a file.

`python -m tests.benchmarks.plain_server FOLDER` prints its port.
"""

import socket
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route


def app(folder: Path) -> Starlette:
    async def sent(request: Request) -> Response:
        return FileResponse(folder / request.path_params["name"])

    async def received(request: Request) -> Response:
        with (folder / request.path_params["name"]).open("wb") as stream:
            async for chunk in request.stream():
                stream.write(chunk)
        return Response(status_code=201)

    return Starlette(routes=[Route("/{name}", sent), Route("/{name}", received, methods=["PUT"])])


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(app(Path(sys.argv[1])), log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
