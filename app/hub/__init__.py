"""The Hub protocol at the root: existing clients publish and download. A group of routes is a file and a line here."""

from app.hub import discussions, history, info, owned, paths_info, refs, resolve, search, tree, whoami

ROUTERS = (
    info.router,
    search.router,
    tree.router,
    paths_info.router,
    refs.router,
    history.router,
    discussions.router,
    whoami.router,
    owned.router,
    resolve.router,
)
