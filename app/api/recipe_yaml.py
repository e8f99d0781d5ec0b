"""A recipe sent as YAML: the fields of the JSON body, or a mergekit file as it is."""

from merge_core.documents import parse_yaml_documents
from merge_core.errors import MalformedError
from merge_core.mergekit import is_mergekit


def yaml_wish(raw: bytes, name: str | None) -> object:
    """The body's fields; a mergekit file is a `recipe`, for the repo `name` that the query has."""
    documents = parse_yaml_documents(raw)
    if is_mergekit(documents):
        return {"recipe": documents} | ({} if name is None else {"name": name})
    if len(documents) != 1:
        found, expected = f"{len(documents)} documents", "one, or those of a mergekit file"
        raise MalformedError("a body is one document", where="document", found=found, expected=expected)
    return documents[0]
