"""Real clients make, change and delete repos, and have their cards looked at."""

import warnings

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import BadRequestError, GatedRepoError, RepositoryNotFoundError

from app.hub.card_check import findings
from tests.app.api.conftest import Pot
from tests.app.hub.conftest import Hub, publish, refused


def test_a_repo_is_made_once_and_its_address_told_again(pot: Pot, hub: Hub) -> None:
    api = hub(pot.token("write", namespaces=("team",)))
    first = api.create_repo("team/new", private=True)
    assert (str(first), first.repo_id) == (f"{pot.url}/team/new", "team/new")
    assert pot.inside.store.require_repo("team/new").private
    assert str(api.create_repo("team/new", exist_ok=True)) == str(first)
    with refused(409):
        api.create_repo("team/new")
    assert pot.inside.store.require_repo("team/new").private


def test_a_token_of_one_namespace_needs_not_name_it(pot: Pot, hub: Hub) -> None:
    assert hub(pot.token("write", namespaces=("team",))).create_repo("short").repo_id == "team/short"
    everywhere = hub(pot.token("write"))
    assert everywhere.create_repo("short").repo_id == f"{everywhere.whoami()['name']}/short"
    with pytest.raises(BadRequestError, match="several namespaces"):
        hub(pot.token("write", namespaces=("team", "other"))).create_repo("short")


def test_what_cannot_be_made_says_why(pot: Pot, hub: Hub) -> None:
    mine, reader = pot.token("write", namespaces=("team",)), pot.token("read", namespaces=("team",))
    with refused(403):
        hub(mine).create_repo("others/one")
    with refused(403):
        hub(reader).create_repo("team/one")
    with refused(401):
        hub().create_repo("team/one")
    with pytest.raises(BadRequestError, match="only models"):
        hub(mine).create_repo("team/data", repo_type="dataset")
    with pot.client(mine) as caller:
        for name in ("..", "x.git", "", "a" * 97, "a b"):
            assert caller.post("/api/repos/create", json={"name": name, "organization": "team"}).status_code == 400
        old = {"name": "old", "organization": "team", "private": True, "lfsmultipartthresh": 5}
        assert caller.post("/api/repos/create", json=old).status_code == 200
    assert pot.inside.store.require_repo("team/old").private


def test_a_repo_is_deleted_by_who_may(pot: Pot, hub: Hub) -> None:
    mine, theirs = (pot.token("write", namespaces=(name,)) for name in ("team", "others"))
    publish(pot, "team/one", {"a.txt": b"a"}, mine)
    publish(pot, "team/secret", {"a.txt": b"a"}, mine, private=True)
    with refused(403):
        hub(theirs).delete_repo("team/one")
    for name in ("team/secret", "team/none"):
        with pytest.raises(RepositoryNotFoundError):
            hub(theirs).delete_repo(name)
    hub(mine).delete_repo("team/one")
    hub(mine).delete_repo("team/one", missing_ok=True)
    assert pot.inside.store.get_repo("team", "one") is None


def test_settings_say_who_sees_a_repo_and_who_reads_it(pot: Pot, hub: Hub) -> None:
    mine, theirs = (pot.token("write", namespaces=(name,)) for name in ("team", "others"))
    publish(pot, "team/one", {"a.txt": b"a"}, mine)
    hub(mine).update_repo_settings("team/one", gated="manual")
    with pytest.raises(GatedRepoError):
        hub(theirs).hf_hub_download("team/one", "a.txt")
    hub(mine).update_repo_settings("team/one", gated=False, private=True)
    with pytest.raises(RepositoryNotFoundError):
        hub(theirs).model_info("team/one")
    hub(mine).update_repo_settings("team/one", visibility="public")
    assert hub(theirs).model_info("team/one").gated is False
    with refused(403):
        hub(theirs).update_repo_settings("team/one", private=True)
    with pot.client(mine) as caller:
        for wrong in ({"gated": "yes"}, {"private": "maybe"}, {"visibility": "hidden"}, {"gated": True}):
            assert caller.put("/api/models/team/one/settings", json=wrong).status_code == 400


def test_a_repo_is_moved_within_reach(pot: Pot, hub: Hub) -> None:
    mine = pot.token("write", namespaces=("team",))
    publish(pot, "team/one", {"a.txt": b"a"}, mine)
    with refused(403):
        hub(mine).move_repo("team/one", "others/one")
    hub(mine).move_repo("team/one", "team/two")
    assert hub(mine).list_repo_files("team/two") == ["a.txt"]
    with pytest.raises(RepositoryNotFoundError):
        hub(mine).move_repo("team/one", "team/three")


def test_a_card_is_looked_at_before_it_is_sent(pot: Pot, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    api = hub()
    api.create_repo("team/one")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", pot.url)
    with pytest.raises(ValueError, match="base_model"):
        api.upload_file(path_or_fileobj=b"---\nbase_model: 3\n---\n", path_in_repo="README.md", repo_id="team/one")
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        api.upload_file(path_or_fileobj=b"# Only words", path_in_repo="README.md", repo_id="team/one")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ModelCard("---\nlicense: mit\ntags: [merge]\nbase_model: org/base\n---\nHello").validate()


@pytest.mark.parametrize(
    ("front", "words"),
    [
        ("a: [", "not valid YAML"),
        ("- a\n- b", "not a mapping"),
        ("tags: {a: 1}", '"tags" must be'),
        ("license: [1]", '"license" must be'),
        ("pipeline_tag: [a]", '"pipeline_tag" must be text'),
        ("a: &x [1]\nb: *x", "alias"),
        ("a: 1\na: 2", "not valid YAML"),
    ],
)
def test_front_matter_that_cannot_be_taken_is_named(front: str, words: str) -> None:
    errors, found_warnings = findings(f"---\n{front}\n---\nText")
    assert words in errors[0]
    assert found_warnings == []


def test_doubtful_front_matter_is_taken_with_a_warning() -> None:
    assert findings("---\nbase_model: /tmp/models/mine\n---\n") == (
        [],
        ['"base_model" with value "/tmp/models/mine" is not the name of a model'],
    )
    assert findings("---\r\nbase_model:\r\n- org/base\r\nlicense: mit\r\n---\r\ntext\r\n---\r\n") == ([], [])
    assert findings("---\n---\n")[1] == findings("")[1] == findings("text\n---\na: [\n---")[1]
