"""What is told of a repo, property by property: some cost a look into its files and are read when asked for."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from app.api.services import Services
from app.hub.cards import card_data, tags_of
from app.hub.entries import size_of, stamp
from app.hub.errors import MissingRevisionError
from app.hub.oids import oids_of
from app.hub.parameters import count_parameters
from app.hub.snapshots import Snapshot, open_snapshot
from app.store.commits import NO_COMMIT
from app.store.records import Repo
from app.store.revisions import MAIN
from merge_core.documents import parse_json
from merge_core.errors import InputError, MalformedError, nearest

LARGEST_CONFIG = 1 << 20


class Model:
    """A repo at one of its revisions."""

    def __init__(
        self, pot: Services, repo: Repo, snapshot: Snapshot | None = None, card: dict[str, Any] | None = None
    ) -> None:
        self.repo = repo
        self._pot, self._snapshot, self._card = pot, snapshot, card

    @cached_property
    def snapshot(self) -> Snapshot:
        """Its files: those of `main` unless others were given. None where they are not foreseen yet."""
        if self._snapshot is not None:
            return self._snapshot
        try:
            return open_snapshot(self._pot, self.repo, MAIN)
        except MissingRevisionError:  # of a composition whose files are known once it is built
            return Snapshot(self.repo, self.repo.head or NO_COMMIT, "", self.repo.created_at, {})

    @cached_property
    def card(self) -> dict[str, Any]:
        """The front matter of its README."""
        return card_data(self._pot, self.snapshot) if self._card is None else self._card

    def siblings(self, blobs: bool = False) -> list[dict[str, Any]]:
        """Its files; with `blobs` their sizes and hashes too."""
        files = self.snapshot.files.values()
        if not blobs:
            return [{"rfilename": file.path} for file in files]
        oids = oids_of(self._pot, files)
        return [{"rfilename": file.path, "blobId": oids[file.path], **size_of(file)} for file in files]

    def config(self) -> dict[str, Any]:
        """What its configuration files say of the kind of model."""
        config, adapter = self._document("config.json"), self._document("adapter_config.json")
        told = {key: config[key] for key in ("architectures", "model_type") if key in config}
        named = {key: adapter[key] for key in ("base_model_name_or_path", "task_type", "peft_type") if key in adapter}
        return told | ({"peft": named} if named else {})

    def parameters(self) -> dict[str, Any] | None:
        """How many numbers its weights hold."""
        return count_parameters(self._pot.blobs, self.snapshot.files.values())

    def stored(self) -> int:
        """Bytes of the different files."""
        return sum({file.sha256 or file.path: file.size for file in self.snapshot.files.values()}.values())

    def _document(self, path: str) -> dict[str, Any]:
        file = self.snapshot.files.get(path)
        if file is None or file.sha256 is None or file.size > LARGEST_CONFIG:
            return {}
        try:
            content = parse_json(b"".join(self._pot.blobs.read(file.sha256)))
        except MalformedError:  # a person's business, not a list's
            return {}
        return content if isinstance(content, dict) else {}


def _nothing(_model: Model) -> None:
    """Known to the protocol, and not kept here."""


PROPERTIES: Mapping[str, Callable[[Model], Any]] = {
    "author": lambda model: model.repo.namespace,
    "baseModels": _nothing,
    "cardData": lambda model: model.card,
    "childrenModelCount": _nothing,
    "config": Model.config,
    "createdAt": lambda model: stamp(model.repo.created_at),
    "disabled": lambda _: False,
    "downloads": lambda _: 0,
    "downloadsAllTime": lambda _: 0,
    "evalResults": _nothing,
    "gated": lambda model: model.repo.gated or False,
    "gguf": _nothing,
    "inference": _nothing,
    "inferenceProviderMapping": _nothing,
    "lastModified": lambda model: stamp(model.repo.updated_at),
    "library_name": lambda model: model.card.get("library_name"),
    "likes": lambda _: 0,
    "mask_token": _nothing,
    "model-index": lambda model: model.card.get("model-index"),
    "pipeline_tag": lambda model: model.card.get("pipeline_tag"),
    "private": lambda model: model.repo.private,
    "resourceGroup": _nothing,
    "safetensors": Model.parameters,
    "securityRepoStatus": _nothing,
    "sha": lambda model: model.snapshot.commit,
    "siblings": Model.siblings,
    "spaces": lambda _: [],
    "tags": lambda model: tags_of(model.repo, model.card),
    "transformersInfo": _nothing,
    "trendingScore": lambda _: 0,
    "usedStorage": Model.stored,
    "widgetData": _nothing,
    "xetEnabled": _nothing,
}
LISTED = ("createdAt", "downloads", "library_name", "likes", "pipeline_tag", "private", "tags", "trendingScore")
IN_FULL = (*LISTED, "author", "disabled", "gated", "lastModified", "sha", "siblings")
SHOWN = (*IN_FULL, "cardData", "config", "safetensors", "spaces", "usedStorage")


def told(model: Model, names: Iterable[str]) -> dict[str, Any]:
    """The id and these properties. Those that are not kept are left out."""
    repo = model.repo
    known = {name: PROPERTIES[name](model) for name in names}
    named = {"_id": f"{repo.id:024x}", "id": repo.full_name, "modelId": repo.full_name}
    return named | {name: value for name, value in known.items() if value is not None}


def check_properties(names: Iterable[str]) -> list[str]:
    """Names of properties from a request. Raises InputError."""
    for name in names:
        if name not in PROPERTIES:
            known = nearest(name, PROPERTIES)
            raise InputError("no such property of a model", where="query expand", found=repr(name), expected=known)
    return list(names)
