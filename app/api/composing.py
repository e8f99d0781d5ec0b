"""From a recipe to a composition: planned, then found among those that are there, or submitted."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from fastapi import Response

from app.api.auth import check_write
from app.api.plans import RecipeData
from app.api.recipes import Pinned, planned
from app.api.services import Services
from app.api.shapes import CompositionShape
from app.names import split_name
from app.store.records import Composition, PlannedFile, Token
from merge_core.errors import ConflictError, InputError
from merge_core.plan import Plan


def compose(
    pot: Services,
    token: Token,
    full_name: str,
    recipe: RecipeData,
    response: Response,
    *,
    lazy: bool = False,
    check: Callable[[Plan], None] = lambda plan: None,
) -> CompositionShape:
    """Plan and queue, or find what is there; sets the answer's status and where the composition is.

    `check` may refuse the plan before anything is kept of it.
    """
    namespace, name = split_name(full_name, "name")
    check_write(token, namespace)
    _check_free(pot, token, namespace, name)
    pinned, plan = planned(pot, token, recipe)
    check(plan)
    if lazy:
        _check_foreseen(plan)
    composition = _requested(pot, token, full_name, pinned, plan, lazy)
    if composition.state == "planned" and not lazy:
        pot.jobs.start_composition(composition)
        composition = replace(pot.store.get_composition(composition.id) or composition, name=composition.name)
    response.status_code = 200 if composition.state == "done" else 202
    shape = CompositionShape.of(composition)
    response.headers["Location"] = shape.location
    return shape


def _check_free(pot: Services, token: Token, namespace: str, name: str) -> None:
    repo = pot.store.get_repo(namespace, name)
    if repo is not None and repo.head is not None and repo.kind != "composition":
        expected = "a new name, or that of a composition"
        raise ConflictError("this name is taken", where="name", found=f"a repo of kind {repo.kind}", expected=expected)


def _check_foreseen(plan: Plan) -> None:
    if not plan.is_foreseen:
        message = "files of this form are not known before they are built"
        found, expected = f"output kind {plan.recipe.output.kind}", "output kind checkpoint, or not lazy"
        raise InputError(message, where="lazy", found=found, expected=expected)


def _requested(pot: Services, token: Token, name: str, pinned: Pinned, plan: Plan, lazy: bool) -> Composition:
    known = pot.store.composition_with_digest(plan.digest)
    if known is None:
        return _submitted(pot, token, name, pinned, plan, lazy)
    if known.state == "done":
        return _under_name(pot, token, known, name, pinned.is_private)
    named = pot.store.add_name(known, name, private=pinned.is_private, author=token.name)
    if named.state == "done":  # since
        return _under_name(pot, token, known, name, pinned.is_private)
    return named if named.is_open else _submitted(pot, token, name, pinned, plan, lazy)


def _submitted(pot: Services, token: Token, name: str, pinned: Pinned, plan: Plan, lazy: bool) -> Composition:
    summary = {key: value for key, value in plan.describe().items() if key not in ("tensors", "recipe")}
    files = _foreseen(pot, token, plan)
    composition = pot.store.create_composition(
        name,
        pinned.recipe.model_dump(mode="json"),
        plan.digest,
        summary,
        [shard.nbytes for shard in plan.shards],
        private=pinned.is_private,
        author=token.name,
        inputs=plan.marks.values(),
        files=files,
        lazy=lazy,
    )
    pot.store.settle_blobs({file.sha256 for file in files}, token)
    pot.jobs.submit_composition(composition)
    return composition


def _foreseen(pot: Services, token: Token, plan: Plan) -> list[PlannedFile]:
    """The files as they are known now, what is known of their bytes kept as blobs: all headers in one."""
    if not plan.is_foreseen:
        return []
    headers, _ = _kept(pot, token, b"".join(shard.header for shard in plan.shards))
    files, start = [], 0
    for position, shard in enumerate(plan.shards):
        files.append(PlannedFile(shard.name, shard.nbytes, headers, start, len(shard.header), position))
        start += len(shard.header)
    for path, content in plan.side_files.items():
        sha256, size = _kept(pot, token, content)
        files.append(PlannedFile(path, size, sha256, 0, size, None))
    return files


def _kept(pot: Services, token: Token, content: bytes) -> tuple[str, int]:
    """The bytes as a blob, which stays until the composition that is made next holds it."""
    sha256, size = pot.blobs.put_bytes(content, partial(pot.store.announce_blob, owner=token))
    pot.store.record_blob(sha256, size, token)
    return sha256, size


def _under_name(pot: Services, token: Token, done: Composition, name: str, private: bool) -> Composition:
    """The composition under the name that was asked for: a repo with the same files, made now if need be."""
    pot.store.adopt_composition(done, name, private=private, author=token.name)
    return replace(done, name=name)
