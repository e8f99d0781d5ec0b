"""What a repo's README says in its front matter, and the tags that follow from it."""

from functools import lru_cache
from typing import Any

from app.api.services import Services
from app.hub.snapshots import Snapshot
from app.store.blobs import Blobs
from app.store.records import FileEntry, Repo
from merge_core.formats.model_card import CARD, MOST_BYTES, front_matter

UNSPEAKABLE = "ignore_metadata_errors"
"""A field that clients hand to their own function beside an argument of that name."""


def card_data(pot: Services, snapshot: Snapshot) -> dict[str, Any]:
    """The front matter; nothing where there is none that can be read."""
    file = snapshot.files.get(CARD)
    if file is None or file.sha256 is None:
        return {}
    return read_card(pot.blobs, FileEntry(CARD, file.sha256, file.size))


@lru_cache(maxsize=4096)
def read_card(blobs: Blobs, file: FileEntry) -> dict[str, Any]:
    """The same of a README whose bytes are here; not to be changed by who gets it."""
    front = front_matter(b"".join(blobs.read(file.sha256, 0, min(file.size, MOST_BYTES))))
    return {key: value for key, value in front.items() if key != UNSPEAKABLE}


def tags_of(repo: Repo, card: dict[str, Any]) -> list[str]:
    """The card's own, what its fields amount to, and the kind of the repo."""
    tags = [tag for field in ("tags", "library_name", "pipeline_tag", "language") for tag in _texts(card.get(field))]
    relation = next(iter(_texts(card.get("base_model_relation"))), "adapter" if _is_adapter(card) else "finetune")
    for base in _texts(card.get("base_model")):
        tags += [f"base_model:{base}", f"base_model:{relation}:{base}"]
    tags += [f"dataset:{name}" for name in _texts(card.get("datasets"))]
    tags += [f"license:{name}" for name in _texts(card.get("license"))]
    return list(dict.fromkeys([*tags, f"stockpot:{repo.kind}"]))


def _is_adapter(card: dict[str, Any]) -> bool:
    return card.get("library_name") == "peft"


def _texts(value: object) -> list[str]:
    """A text or a list of texts as a list."""
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
