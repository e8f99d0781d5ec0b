"""The Hub protocol at the root: existing clients publish and download. A group of routes is a file and a line here."""

from app.hub import info, resolve, tree

ROUTERS = (
    info.router,
    tree.router,
    resolve.router,
)
