"""Compositions as repos before they are built: listed at once, streamed while they are built, never wrong."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from app.hub import awaiting, streaming
from app.store.records import Composition
from tests.app.api.conftest import Pot, wait_until
from tests.app.hub.conftest import Hub
from tests.app.hub.hand import FILE, SIDE, Hand, ask, content_of, publish_built, work

Start = Callable[..., "Future[Any]"]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that give up a tenth as fast as they do, and a drip that is as much faster."""
    monkeypatch.setattr(streaming, "DRIP_S", 0.2)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 1)


@pytest.fixture
def start() -> Iterator[Start]:
    """Run something beside the test."""
    with ThreadPoolExecutor(16) as threads:
        yield threads.submit


def fetch(pot: Pot, path: str, **headers: str) -> httpx.Response:
    with httpx.Client(base_url=pot.url, timeout=30) as caller:
        return caller.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def weights_of(composition: Composition, name: str = "soups/mix", revision: str = "") -> str:
    return f"/{name}/resolve/{revision or composition.digest[:40]}/{FILE}"


def begun(pot: Pot, composition: Composition) -> bool:
    """Somebody is following the build."""
    builds = pot.app.state.builds
    return composition.id in builds._builds and builds._builds[composition.id].clients > 0


def test_everything_but_the_weights_is_there_at_once(pot: Pot, hub: Hub, tmp_path: Path) -> None:
    composition = ask(pot)
    expected = content_of(pot, composition, tmp_path / "out")
    info = hub().model_info("soups/mix", files_metadata=True)
    assert info.sha == composition.digest[:40]
    assert {file.rfilename: file.size for file in info.siblings} == {k: len(v) for k, v in expected.items()}
    assert {"merge", "base_model:team/one"} <= set(info.tags)
    folder = Path(hub().snapshot_download("soups/mix", ignore_patterns=["*.safetensors"]))
    assert {path.name for path in folder.iterdir()} == {*SIDE, "README.md"}
    for path in folder.iterdir():
        assert path.read_bytes() == expected[path.name]
    head = get_hf_file_metadata(hf_hub_url("soups/mix", FILE, endpoint=pot.url))
    assert (head.commit_hash, head.size) == (info.sha, len(expected[FILE]))
    assert head.etag is not None
    assert len(head.etag) == 64
    tree = {entry.path: entry for entry in hub().list_repo_tree("soups/mix")}
    assert (tree[FILE].size, tree[FILE].lfs) == (len(expected[FILE]), None)
    assert [commit.commit_id for commit in hub().list_repo_commits("soups/mix")] == [info.sha]
    assert not begun(pot, composition)


def test_weights_are_sent_while_they_are_built(pot: Pot, hub: Hub, tmp_path: Path, start: Start) -> None:
    composition = ask(pot)
    content = content_of(pot, composition, tmp_path / "out")[FILE]
    with httpx.stream("GET", pot.url + weights_of(composition), timeout=10) as response:
        assert (response.status_code, response.headers["content-length"]) == (200, str(len(content)))
        assert response.headers["x-repo-commit"] == composition.digest[:40]
        received, pieces = b"", response.iter_raw()
        hand = Hand(pot, composition, content)
        for share in (0.3, 0.6):
            hand.grow(int(len(content) * share))
            while len(received) < len(content) * share - streaming.RESERVE:
                received += next(pieces)
        assert content.startswith(received)
        assert len(received) < len(content)
        hand.finish()
        received += b"".join(pieces)
    assert received == content
    publish_built(pot, composition)
    assert fetch(pot, weights_of(composition)).content == content
    built = get_hf_file_metadata(hf_hub_url("soups/mix", FILE, endpoint=pot.url))
    assert built.commit_hash == composition.digest[:40]


def test_a_client_outlives_pauses_longer_than_it_waits(
    pot: Pot, hub: Hub, tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    composition = ask(pot)
    expected = content_of(pot, composition, tmp_path / "out")
    download = start(hub().snapshot_download, "soups/mix")
    wait_until(lambda: begun(pot, composition))
    pause(1.5)
    hand = Hand(pot, composition, expected[FILE])
    hand.grow(200_000)
    pause(1.5)
    hand.finish()
    publish_built(pot, composition)
    folder = Path(download.result(20))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected
    assert "Trying to resume" not in caplog.text


def pause(seconds: float) -> None:
    """Let time pass: a build that stands still is what these tests are about."""
    end = monotonic() + seconds
    wait_until(lambda: monotonic() >= end)


RANGES = [
    "0-0",
    "0-",
    "5-90",
    "100-1700",
    "20000-",
    "300000-300001",
    "-1",
    "-70000",
    "131000-400000",
    "524000-999999999",
]


def test_any_range_is_of_the_bytes_that_the_file_will_have(pot: Pot, tmp_path: Path, start: Start) -> None:
    composition = ask(pot)
    content = content_of(pot, composition, tmp_path / "out")[FILE]
    mark = httpx.head(pot.url + weights_of(composition)).headers["etag"]
    asked = {text: start(fetch, pot, weights_of(composition), Range=f"bytes={text}", If_Range=mark) for text in RANGES}
    hand = Hand(pot, composition, content)
    for nbytes in range(40_000, len(content), 120_000):
        hand.grow(nbytes)
    hand.finish()
    for text, answer in asked.items():
        first, _, last = text.partition("-")
        expected = content[int(first) : int(last) + 1 if last else None] if first else content[-int(last) :]
        response = answer.result(20)
        assert (response.status_code, response.content) == (206, expected), text
        begin = len(content) - len(expected) if not first else int(first)
        assert response.headers["content-range"] == f"bytes {begin}-{begin + len(expected) - 1}/{len(content)}"


def test_a_range_that_is_none_of_the_file_s_is_refused(pot: Pot) -> None:
    composition = ask(pot)
    beyond = fetch(pot, weights_of(composition), Range="bytes=9999999-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (
        416,
        f"bytes */{composition.files[0].size}",
    )


def test_a_download_that_was_cut_off_goes_on_where_it_was(pot: Pot, tmp_path: Path, start: Start) -> None:
    composition = ask(pot)
    content = content_of(pot, composition, tmp_path / "out")[FILE]
    hand = Hand(pot, composition, content)
    hand.grow(300_000)
    with httpx.stream("GET", pot.url + weights_of(composition), timeout=10) as response:
        received = next(response.iter_raw(100_000))
        mark = response.headers["etag"]
    wait_until(lambda: not begun(pot, composition))
    rest = start(fetch, pot, weights_of(composition), Range=f"bytes={len(received)}-", If_Range=mark)
    wait_until(lambda: begun(pot, composition))
    hand.finish()
    assert rest.result(20).status_code == 206
    assert received + rest.result().content == content
    publish_built(pot, composition)
    late = fetch(pot, weights_of(composition), Range="bytes=1000-", If_Range=mark)
    assert (late.status_code, late.content) == (206, content[1000:])


def test_looking_at_a_lazy_composition_starts_nothing_and_many_downloads_start_one_build(
    pot: Pot, hub: Hub, tmp_path: Path, start: Start
) -> None:
    composition = ask(pot, lazy=True)
    expected = content_of(pot, composition, tmp_path / "out")
    hub().model_info("soups/mix", files_metadata=True)
    list(hub().list_repo_tree("soups/mix"))
    get_hf_file_metadata(hf_hub_url("soups/mix", FILE, endpoint=pot.url))
    hub().hf_hub_download("soups/mix", "config.json")
    assert state(pot, composition) == "planned"
    downloads = [
        start(hub().snapshot_download, "soups/mix", cache_dir=tmp_path / f"client{number}") for number in range(8)
    ]
    wait_until(lambda: state(pot, composition) == "queued")
    work(pot)
    for download in downloads:
        folder = Path(download.result(20))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected
    kinds = [event.kind for event in pot.inside.store.events_since(composition.job_id) if event.kind != "progress"]
    assert kinds == ["planned", "queued", "running", "running", "done"]


def state(pot: Pot, composition: Composition) -> str:
    found = pot.inside.store.get_composition(composition.id)
    assert found is not None
    return found.state


def test_a_build_that_fails_closes_short_and_then_names_the_cause(
    pot: Pot, hub: Hub, tmp_path: Path, start: Start
) -> None:
    composition = ask(pot)
    content = content_of(pot, composition, tmp_path / "out")[FILE]
    hand = Hand(pot, composition, content)
    download = start(hub().hf_hub_download, "soups/mix", FILE)
    hand.grow(200_000)
    wait_until(lambda: begun(pot, composition))
    hand.fail(where="tensor 'layer.2.weight'", message="the result is not finite", found="inf at element 7")
    with pytest.raises(HfHubHTTPError, match=r"tensor 'layer.2.weight': the result is not finite.*inf at element 7"):
        download.result(20)
    for revision in ("main", composition.digest[:40]):
        refused = fetch(pot, weights_of(composition, revision=revision))
        assert (refused.status_code, refused.headers["x-error-message"]) == (409, refused.json()["error"])
        assert "not finite" in refused.json()["error"]
        assert httpx.head(pot.url + weights_of(composition, revision=revision)).status_code == 200
    for call in (hub().snapshot_download, lambda name: hub().hf_hub_download(name, "tokenizer.json")):
        with pytest.raises(HfHubHTTPError, match="the result is not finite"):
            call("soups/mix")


def test_a_cancelled_build_closes_short(pot: Pot, hub: Hub, tmp_path: Path, start: Start) -> None:
    composition = ask(pot)
    hand = Hand(pot, composition, content_of(pot, composition, tmp_path / "out")[FILE])
    hand.grow(200_000)
    download = start(hub().snapshot_download, "soups/mix")
    wait_until(lambda: begun(pot, composition))
    pot.inside.jobs.cancel(composition.job_id)
    with pytest.raises(HfHubHTTPError, match="the composition was cancelled"):
        download.result(20)


def test_a_deleted_repo_closes_short(pot: Pot, hub: Hub, tmp_path: Path, start: Start) -> None:
    composition = ask(pot)
    expected = content_of(pot, composition, tmp_path / "out")
    other = ask(pot, "soups/other")
    assert other.id == composition.id
    hand = Hand(pot, composition, expected[FILE])
    hand.grow(200_000)
    download = start(hub().snapshot_download, "soups/mix")
    kept = start(hub().snapshot_download, "soups/other")
    wait_until(lambda: begun(pot, composition) and pot.app.state.builds._builds[composition.id].clients == 2)
    with pot.client() as caller:
        caller.delete("/v1/repos/soups/mix").raise_for_status()
    with pytest.raises(HfHubHTTPError, match="404"):
        download.result(20)
    hand.finish()
    assert (Path(kept.result(20)) / FILE).read_bytes() == expected[FILE]


def test_another_attempt_goes_on_where_one_died(pot: Pot, hub: Hub, tmp_path: Path, start: Start) -> None:
    composition = ask(pot)
    content = content_of(pot, composition, tmp_path / "out")[FILE]
    first = Hand(pot, composition, content, name="first")
    first.grow(300_000)
    download = start(fetch, pot, weights_of(composition))
    wait_until(lambda: begun(pot, composition))
    first.path.unlink()
    first.die()
    second = Hand(pot, composition, content, name="second")
    for nbytes in (100_000, 400_000):
        second.grow(nbytes)
        pause(0.5)
    second.finish()
    assert download.result(20).content == content


def test_the_files_of_a_worker_elsewhere_come_when_they_are_in_the_store(
    pot: Pot, hub: Hub, tmp_path: Path, start: Start
) -> None:
    composition = ask(pot)
    content = content_of(pot, composition, tmp_path / "out")[FILE]
    hand = Hand(pot, composition, content)
    hand.grow(300_000)
    away = hand.path.rename(hand.path.with_name("away"))
    download = start(hub().hf_hub_download, "soups/mix", FILE)
    wait_until(lambda: begun(pot, composition))
    pause(1.2)
    away.rename(hand.path)
    hand.finish()
    assert Path(download.result(20)).read_bytes() == content


def test_main_is_what_was_asked_for_last_and_an_older_commit_keeps_its_id(pot: Pot, hub: Hub, tmp_path: Path) -> None:
    older = ask(pot)
    work(pot)
    built = hub().model_info("soups/mix").sha
    assert built == older.digest[:40]
    newer = ask(pot, scale=0.5)
    assert hub().model_info("soups/mix").sha == newer.digest[:40]
    old_weights = fetch(pot, weights_of(older)).content
    Hand(pot, newer, b"").fail(message="the disk is full")
    refused = fetch(pot, weights_of(newer, revision="main"))
    assert (refused.status_code, "the disk is full" in refused.text) == (409, True)
    assert fetch(pot, weights_of(older)).content == old_weights
    with pot.client() as caller:
        again = caller.post("/v1/compositions", json={"name": "soups/mix", "recipe": newer.recipe | {"scale": 1.0}})
        assert again.status_code == 202
        work(pot)
        wish = {"name": "soups/mix", "recipe": older.recipe}
        assert caller.post("/v1/compositions", json=wish).status_code == 200
    assert fetch(pot, weights_of(older, revision="main")).content == old_weights


def test_what_is_not_foreseen_is_a_missing_revision_until_it_is_built(
    pot: Pot, hub: Hub, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    composition = ask(pot, output={"kind": "patch"})
    monkeypatch.setattr(awaiting, "MOST_S", 0.1)
    for revision in ("main", composition.digest[:40]):
        with pytest.raises(RevisionNotFoundError, match="known once it is built"):
            hub().model_info("soups/mix", revision=revision)
    monkeypatch.setattr(awaiting, "MOST_S", 20)
    waiting = [start(hub().model_info, "soups/mix", revision=text) for text in ("main", composition.digest[:40])]
    pause(0.5)
    assert not any(answer.done() for answer in waiting)
    work(pot)
    assert {answer.result(20).sha for answer in waiting} == {composition.digest[:40]}
    assert Path(hub().hf_hub_download("soups/mix", "patch.safetensors")).exists()


def test_a_private_composition_is_hidden_before_it_is_built(pot: Pot, hub: Hub) -> None:
    secret = pot.token("write", namespaces=("soups", "team"))
    with pot.client(secret) as caller:
        for name in ("one", "two"):
            caller.put(f"/v1/repos/team/{name}", json={"private": True}).raise_for_status()
    composition = ask(pot, secret=secret)
    assert hub(secret).model_info("soups/mix").private
    stranger = pot.token("read", namespaces=("other",))
    for caller in (hub(), hub(stranger)):
        with pytest.raises(RepositoryNotFoundError):
            caller.model_info("soups/mix")
    nothing = fetch(pot, weights_of(composition).replace("mix", "none"))
    hidden = fetch(pot, weights_of(composition))
    assert hidden.status_code == nothing.status_code == 401
    assert hidden.headers["x-error-code"] == "RepoNotFound"
