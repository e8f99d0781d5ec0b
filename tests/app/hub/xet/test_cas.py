"""The Xet routes: what is sent becomes blobs, what is broken is refused by name, what is others' is unknown."""

import json
import random
from datetime import timedelta
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from app.hub.xet import shard, xorb
from app.jobs.reconcile import Reconciler
from app.store.tables import blobs
from app.store.xorb_tables import xorbs
from tests.app.api.conftest import Pot
from tests.app.hub.xet.building import GOLDEN, GOLDEN_XORB, Part, golden_files, hash_of, shard_of, xorb_of
from tests.app.hub.xet.conftest import PUSH, Cas, Send, opened, run_client

CHUNKS = [b"one", b"two" * 1000, b"three"]
HASH = hash_of(CHUNKS)
WHOLE: Part = (HASH, CHUNKS, 0)


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def stored(pot: Pot, content: bytes) -> bytes | None:
    """The bytes of a blob with this content's hash, as a repo would have them."""
    found = digest(content)
    return b"".join(pot.inside.blobs.read(found)) if pot.inside.store.blob_known(found) else None


def refusal(answer: httpx.Response) -> str:
    assert answer.status_code in (400, 404, 413), answer.text
    return str(answer.json()["error"])


def told(answer: httpx.Response) -> list[dict[str, object]]:
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


def test_what_a_real_client_sent_becomes_blobs(cas: Cas) -> None:
    assert cas.xorb(GOLDEN_XORB, (GOLDEN / "xorb").read_bytes()).json() == {"was_inserted": True}
    assert cas.shard((GOLDEN / "shard").read_bytes()).json() == {"result": 1}
    for content in golden_files():
        assert stored(cas.pot, content) == content


def test_a_shard_s_progress_ends_with_its_result(cas: Cas) -> None:
    cas.xorb(HASH, xorb_of(CHUNKS, [1, 2, 0]))
    assert told(cas.shard(shard_of([WHOLE, WHOLE], [WHOLE]), "v2"))[-1] == {"type": "result"}
    assert stored(cas.pot, b"".join(CHUNKS) * 2) is not None


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), max_size=6), st.booleans(), st.booleans())
def test_a_file_is_its_terms_joined(cas: Cas, terms: list[tuple[int, int]], sha256s: bool, proofs: bool) -> None:
    draw = random.Random(0)
    owned = [[draw.randbytes(draw.randint(1, 300)) for _ in range(10)] for _ in range(3)]
    for number, content in enumerate(owned):
        cas.xorb(hash_of(content), xorb_of(content, [number])).raise_for_status()
    parts: list[Part] = [(hash_of(owned[number]), owned[number], first) for number, first in terms]
    joined = b"".join(data for _, content, first in parts for data in content[first:])
    cas.shard(shard_of(parts, sha256s=sha256s, proofs=proofs)).raise_for_status()
    assert stored(cas.pot, joined) == joined


def test_a_file_can_be_committed_by_its_sender_alone(pot: Pot) -> None:
    secrets = [pot.token("write", namespaces=(name,)) for name in ("team", "other")]
    mine = opened(pot, secrets[0])
    mine.xorb(HASH, xorb_of(CHUNKS))
    mine.shard(shard_of([WHOLE])).raise_for_status()
    tokens = [pot.inside.store.find_token(secret) for secret in secrets]
    assert [pot.inside.store.may_read_blob(token, digest(b"".join(CHUNKS))) for token in tokens] == [True, False]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_xorb_of_others_is_as_unknown_as_one_that_was_never_sent(pot: Pot, version: str) -> None:
    mine, theirs = (opened(pot, pot.token("write", namespaces=(name,)), f"{name}/x") for name in ("team", "other"))
    mine.xorb(HASH, xorb_of(CHUNKS))
    unknown = [b"never sent"]
    answers = [
        theirs.shard(shard_of([(hash_of(content), content, 0)]), version).text.replace(hash_of(content), "")
        for content in (CHUNKS, unknown)
    ]
    assert answers[0] == answers[1]
    assert "remove what the client remembers" in answers[0]
    assert theirs.xorb(HASH, xorb_of(CHUNKS, [1])).json() == {"was_inserted": True}, "as if nobody else had sent it"
    assert theirs.xorb(HASH, xorb_of(CHUNKS, [1])).json() == {"was_inserted": False}
    theirs.shard(shard_of([WHOLE]), version).raise_for_status()
    assert stored(pot, b"".join(CHUNKS)) is not None


def test_chunks_of_a_public_file_can_be_named_by_everybody(pot: Pot) -> None:
    """A machine's jobs share what the client remembers; their tokens differ."""
    secret = pot.token("write", namespaces=("team",))
    mine, theirs = opened(pot, secret), opened(pot, pot.token("write", namespaces=("other",)), "other/x")
    mine.xorb(HASH, xorb_of(CHUNKS))
    mine.shard(shard_of([WHOLE])).raise_for_status()
    assert "has not sent" in refusal(theirs.shard(shard_of([WHOLE])))
    with pot.client(secret) as client:
        client.put("/v1/repos/team/math/files/a.bin", content=b"".join(CHUNKS)).raise_for_status()
    theirs.shard(shard_of([WHOLE, WHOLE])).raise_for_status()
    assert stored(pot, b"".join(CHUNKS) * 2) is not None


def test_a_shard_that_is_sent_again_is_done_at_once(cas: Cas) -> None:
    cas.xorb(HASH, xorb_of(CHUNKS))
    for _ in range(2):
        cas.shard(shard_of([WHOLE])).raise_for_status()
    assert stored(cas.pot, b"".join(CHUNKS)) is not None


def bent(content: bytes, at: int, replacement: bytes) -> bytes:
    return content[:at] + replacement + content[at + len(replacement) :]


@pytest.mark.parametrize(
    ("at", "replacement", "says"),
    [
        (48, b"\0", "the hash of its chunks"),
        (133, b"\xff", "the length of its chunks"),
        (140, b"\4", "no such chunks"),
        (144, b"\0", "the hash of the range"),
        (192, b"\0", "not what was announced"),
    ],
)
def test_a_file_that_is_not_what_its_shard_says_is_refused_and_not_kept(
    cas: Cas, at: int, replacement: bytes, says: str
) -> None:
    content = [bytes([at]) * 2000]
    cas.xorb(hash_of(content), xorb_of(content))
    wrong = bent(shard_of([(hash_of(content), content, 0)]), at, replacement)
    assert says in refusal(cas.shard(wrong))
    [frame] = told(cas.shard(wrong, "v2"))
    assert frame["type"] == "error"
    assert says in str(frame["message"])
    assert stored(cas.pot, content[0]) is None
    assert list(cas.pot.inside.settings.uploads.iterdir()) == []


def test_broken_xorbs_and_shards_are_refused(cas: Cas) -> None:
    assert "not the one that its address names" in refusal(cas.xorb("0" * 64, xorb_of(CHUNKS)))
    assert "not a chunk" in refusal(cas.xorb(HASH, b"nonsense"))
    assert "not a xorb's address" in refusal(cas.xorb("A" * 64, xorb_of(CHUNKS)))
    assert "not a xorb's address" in refusal(cas.post(f"/v1/xorbs/other/{HASH}", xorb_of(CHUNKS)))
    assert "wrong header" in refusal(cas.shard(b""))
    assert list(cas.pot.inside.settings.uploads.iterdir()) == []
    assert cas.pot.inside.store.count_blobs() == (0, 0)


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/v1/shards", shard.MOST_BYTES),
        ("/v2/shards", shard.MOST_BYTES),
        (f"/v1/xorbs/default/{HASH}", xorb.MOST_BYTES),
    ],
)
def test_a_body_that_is_too_large_is_refused_before_it_is_sent(cas: Cas, path: str, most: int) -> None:
    connection = HTTPConnection(urlsplit(cas.address).netloc, timeout=30)
    connection.putrequest("POST", f"/xet{path}")
    connection.putheader("Authorization", f"Bearer {cas.access}")
    connection.putheader("Content-Length", str(most + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_full_xorb_of_what_does_not_compress_is_taken(cas: Cas) -> None:
    draw = random.Random(0)
    content = [draw.randbytes(xorb.CHUNK_BYTES) for _ in range((64 << 20) // xorb.CHUNK_BYTES)]
    assert cas.xorb(hash_of(content), xorb_of(content)).json() == {"was_inserted": True}


def test_a_body_that_turns_out_too_large_is_refused(cas: Cas) -> None:
    """It says nothing of its length, and is longer than any xorb."""
    with cas.client() as client:
        endless = client.post(f"/v1/xorbs/default/{HASH}", content=(bytes(1 << 20) for _ in range(66)))
    assert endless.status_code == 413
    assert list(cas.pot.inside.settings.uploads.iterdir()) == []


def test_a_file_above_the_limit_is_refused(cas: Cas) -> None:
    """The tests' services take files of up to 8 MiB."""
    content = [bytes(131072)]
    cas.xorb(hash_of(content), xorb_of(content, [1]))
    assert "the file is too large" in refusal(cas.shard(shard_of([(hash_of(content), content, 0)] * 65)))


def test_what_clients_ask_for_first_is_not_here(cas: Cas) -> None:
    with cas.client() as client:
        assert client.get(f"/v1/chunks/default/{HASH}").status_code == 404
        assert client.post(f"/v1/xorb-grants/default/{HASH}", json={}).status_code == 404
        assert client.get(f"/v1/reconstructions/{HASH}").status_code == 404
        assert client.head(f"/v1/xorbs/default/{HASH}").status_code in (404, 405)


def test_the_real_client_sends_full_xorbs_and_then_only_what_is_new(pot: Pot, send: Send, tmp_path: Path) -> None:
    """64 MiB that cannot be compressed are more than that as a xorb; the second file takes two more."""
    draw = random.Random(0)
    noise, words = draw.randbytes(64 << 20), b"".join(b"%d, " % number for number in range(1 << 19))
    first, second = tmp_path / "first.bin", tmp_path / "second.bin"
    first.write_bytes(noise)
    second.write_bytes(words + noise[1 << 20 : 40 << 20] + draw.randbytes(65 << 20) + words)
    object.__setattr__(pot.inside.settings, "max_file_bytes", 1 << 30)
    cas = opened(pot)
    for path in (first, second):
        done = send(cas, path)
        assert done.returncode == 0, done.stderr
        assert b"".join(pot.inside.blobs.read(digest(path.read_bytes()))) == path.read_bytes()
    assert max(xorb_sizes(pot)) > 64 << 20
    assert len(xorb_sizes(pot)) == 3


def test_a_folder_is_pushed_by_xet_and_again_by_another_token_of_the_machine(pot: Pot, tmp_path: Path) -> None:
    """Of the second push nothing is sent but what is new: the first one's repo is public."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("team/one", "other/two"):
        (folder / "model.bin").write_bytes(random.Random(2).randbytes(3 << 20) + name.encode())
        (folder / "README.md").write_text(f"# {name}\n")
        secret = pot.token("write", namespaces=(name.partition("/")[0],))
        done = run_client(PUSH, tmp_path / "memory", pot.url, secret, name, str(folder))
        assert done.returncode == 0, done.stderr
        with pot.client(secret) as client:
            got = client.get(f"/{name}/resolve/{done.stdout.strip()}/model.bin")
        assert got.content == (folder / "model.bin").read_bytes()
    assert xorb_sizes(pot)[0] < 1 << 20 < xorb_sizes(pot)[1]


def xorb_sizes(pot: Pot) -> list[int]:
    """Of all that are kept, in bytes as sent."""
    with pot.inside.store._database.read() as connection:
        query = select(blobs.c.size).join(xorbs, xorbs.c.sha256 == blobs.c.sha256).order_by(blobs.c.size)
        return list(connection.execute(query).scalars())


def test_the_sweep_forgets_xorbs_that_nobody_has_named_for_a_month(cas: Cas) -> None:
    pot, day = cas.pot.inside, 24 * 3600 * 10**6
    cas.xorb(HASH, xorb_of(CHUNKS))
    reconciler = Reconciler(pot.settings, pot.store, pot.redis)
    for days, left in ((29, 1), (2, 0)):
        with pot.store._database.write() as connection:
            for table in ("xorbs", "blobs"):
                connection.execute(text(f"UPDATE {table} SET touched_at = touched_at - {days * day}"))
        reconciler.collect()
        assert pot.store.count_blobs()[0] == len(xorb_sizes(cas.pot)) == left


def test_the_real_client_says_why_it_was_refused(cas: Cas, send: Send, tmp_path: Path) -> None:
    """It believes that a xorb is here, as after a service has lost its data."""
    path, other = tmp_path / "a.bin", tmp_path / "b.bin"
    path.write_bytes(random.Random(1).randbytes(1 << 20))
    other.write_bytes(path.read_bytes() + b"more")
    assert send(cas, path).returncode == 0
    cas.pot.inside.store.forget_xorbs(timedelta(days=-1))
    done = send(cas, other)
    assert done.returncode != 0
    assert "remove what the client remembers" in done.stderr
    assert send(cas, other, memory="fresh").returncode == 0
    assert stored(cas.pot, other.read_bytes()) is not None
