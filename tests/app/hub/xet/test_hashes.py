"""The tree of hashes, told chunk by chunk, is the one that the specification builds over all at once."""

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from app.hub.xet.hashes import Tree, as_text, is_text
from tests.app.hub.xet.building import root


@given(st.integers(0, 400), st.binary(max_size=4))
def test_a_tree_told_chunk_by_chunk_is_the_one_of_all_at_once(count: int, salt: bytes) -> None:
    nodes = [(sha256(salt + number.to_bytes(4, "little")).digest(), number % 7 + 1) for number in range(count)]
    tree = Tree()
    for digest, length in nodes:
        tree.add(digest, length)
    assert tree.root() == root(nodes)


def test_a_hash_is_written_as_four_little_endian_numbers() -> None:
    """The specification's own example."""
    text = "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"
    assert as_text(bytes(range(32))) == text
    assert is_text(text)
    assert not is_text(text.upper())
    assert not is_text(text[:-1])
