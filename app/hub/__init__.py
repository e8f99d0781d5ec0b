"""The Hub protocol at the root: existing clients publish and download. A group of routes is a file and a line here."""

from app.hub import (
    commit,
    discussions,
    history,
    info,
    lfs,
    owned,
    paths_info,
    preupload,
    refs,
    repos,
    resolve,
    search,
    tree,
    whoami,
)
from app.hub.xet import cas, tokens

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
    repos.router,
    preupload.router,
    lfs.router,
    cas.router,
    tokens.router,
    commit.router,
    resolve.router,
)
