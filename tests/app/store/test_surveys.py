from app.store.store import Store
from app.store.surveys import KeptSurveys
from tests.app.store.conftest import keep


def test_records_come_back_by_key_and_later_ones_take_their_place(store: Store) -> None:
    blobs = [keep(store, content).sha256 for content in (b"base", b"delta")]
    kept = KeptSurveys(store, blobs)
    kept.put({"1" * 64: b"one", "2" * 64: b"\x00\xff"})
    kept.put({"1" * 64: b"anew"})
    assert kept.get(["1" * 64, "2" * 64, "3" * 64]) == {"1" * 64: b"anew", "2" * 64: b"\x00\xff"}
    assert KeptSurveys(store, []).get([]) == {}


def test_more_keys_than_a_statement_takes_are_found(store: Store) -> None:
    records = {f"{number:064x}": bytes([number % 256]) for number in range(1201)}
    kept = KeptSurveys(store, [keep(store, b"delta").sha256])
    kept.put(records)
    assert kept.get(records.keys()) == records


def test_nothing_is_kept_about_bytes_that_are_gone(store: Store) -> None:
    kept = KeptSurveys(store, [keep(store, b"base").sha256, "f" * 64])
    kept.put({"1" * 64: b"one"})
    assert kept.get(["1" * 64]) == {}
