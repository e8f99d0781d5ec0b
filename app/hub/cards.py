"""What a repo's README says in its front matter, and the tags that follow from it."""

from typing import Any

from app.api.services import Services
from app.hub.snapshots import Snapshot
from app.store.records import Repo
from merge_core.formats.model_card import CARD, MOST_BYTES, front_matter


def card_data(pot: Services, snapshot: Snapshot) -> dict[str, Any]:
    """The front matter; nothing where there is none that can be read."""
    file = snapshot.files.get(CARD)
    if file is None or file.sha256 is None:
        return {}
    return front_matter(b"".join(pot.blobs.read(file.sha256, 0, min(file.size, MOST_BYTES))))


def tags_of(repo: Repo, card: dict[str, Any]) -> list[str]:
    """The card's own, what its fields amount to, and the kind of the repo."""
    tags = [*_texts(card.get("tags")), *_texts(card.get("library_name")), *_texts(card.get("pipeline_tag"))]
    tags += [f"base_model:{base}" for base in _texts(card.get("base_model"))]
    tags += [f"license:{name}" for name in _texts(card.get("license"))]
    return list(dict.fromkeys([*tags, f"stockpot:{repo.kind}"]))


def _texts(value: object) -> list[str]:
    """A text or a list of texts as a list."""
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
