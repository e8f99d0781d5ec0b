"""Real clients look around: lists, paths, histories, names of commits, and who they are."""

import pytest
from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile, RepoFolder

from tests.app.api.conftest import Pot, checkpoint
from tests.app.hub.conftest import Hub, publish
from tests.app.hub.hand import ask

CARD = b"---\nlibrary_name: peft\nbase_model: org/base\ntags: [merge, maths]\nlicense: mit\n---\n# Hello\n"
CONFIG = b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 9}'
FILES = {"README.md": CARD, "config.json": CONFIG, "deep/er/notes.txt": b"text"}


def ids(api: HfApi, **wish: object) -> list[str]:
    return [model.id for model in api.list_models(**wish)]  # type: ignore[arg-type]


def test_models_are_listed_by_name_and_found_by_what_they_are(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    publish(pot, "team/two", {"a.txt": b"x"})
    publish(pot, "other/three", {"a.txt": b"y"})
    api = hub()
    assert ids(api) == ["other/three", "team/one", "team/two"]
    assert ids(api, author="team") == ["team/one", "team/two"]
    assert ids(api, search="E/THR") == []
    assert ids(api, search="R/THR") == ["other/three"]
    assert ids(api, limit=2) == ["other/three", "team/one"]
    for tag in ("merge", "license:mit", "base_model:org/base", "base_model:adapter:org/base", "peft"):
        assert ids(api, filter=tag) == ["team/one"]
    assert ids(api, filter=["merge", "nothing"]) == []
    assert ids(api, gated=True) == []
    assert ids(api, inference="warm") == []


def test_models_are_sorted_by_their_dates(pot: Pot, hub: Hub) -> None:
    for name in ("team/b", "team/a", "team/c"):
        publish(pot, name, {"a.txt": b"x"})
    publish(pot, "team/b", {"a.txt": b"changed"})
    api = hub()
    assert ids(api, sort="created_at") == ["team/c", "team/a", "team/b"]
    assert ids(api, sort="last_modified") == ["team/b", "team/c", "team/a"]
    assert ids(api, sort="downloads") == ["team/a", "team/b", "team/c"]
    with pytest.raises(BadRequestError):
        ids(api, sort="beauty")
    with pytest.raises(BadRequestError):
        ids(api, num_parameters="min:1B")


@pytest.mark.parametrize("query", ["", "&sort=lastModified", "&sort=createdAt&direction=1", "&filter=common"])
def test_pages_of_a_list_make_up_the_whole(pot: Pot, query: str) -> None:
    for name in ("a", "b", "c", "d", "e"):
        publish(pot, f"team/{name}", {"README.md": b"---\ntags: [common]\n---\n" + name.encode()})
    with pot.client() as caller:
        whole = [model["id"] for model in caller.get(f"/api/models?limit=100{query}").json()]
        assert sorted(whole) == [f"team/{name}" for name in "abcde"]
        answer = caller.get(f"/api/models?limit=2{query}")
        found = [model["id"] for model in answer.json()]
        while "next" in answer.links:
            answer = caller.get(answer.links["next"]["url"])
            found += [model["id"] for model in answer.json()]
    assert found == whole


@pytest.mark.parametrize("cursor", ["x", "1/x", "/", "999999999999999999/1", "-1/2"])
def test_a_cursor_that_nobody_was_given_is_refused(pot: Pot, cursor: str) -> None:
    publish(pot, "team/one", FILES)
    with pot.client() as caller:
        answer = caller.get("/api/models", params={"sort": "createdAt", "cursor": cursor})
    assert answer.status_code in (200, 400)


def test_lists_and_infos_tell_what_is_asked_for(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    api = hub()
    full = next(iter(api.list_models(full=True, cardData=True, fetch_config=True)))
    assert [file.rfilename for file in full.siblings or ()] == sorted(FILES)
    assert full.card_data is not None
    assert full.card_data["license"] == "mit"
    assert full.config == {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    assert full.sha == pot.inside.store.require_repo("team/one").head
    some = api.model_info("team/one", expand=["sha", "usedStorage"])
    assert (some.sha, some.used_storage) == (full.sha, sum(map(len, FILES.values())))
    assert some.tags is None
    assert next(iter(api.list_models(expand=["author"]))).author == "team"
    with pytest.raises(BadRequestError):
        api.model_info("team/one", expand=["beauty"])  # type: ignore[list-item]


def test_the_numbers_in_the_weights_are_counted(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", {"model.safetensors": checkpoint(0), "other.safetensors": checkpoint(1)})
    publish(pot, "team/two", FILES)
    told = hub().model_info("team/one").safetensors
    assert told is not None
    assert (told.parameters, told.total) == ({"F32": 8 * 6 + 8}, 56)
    assert hub().model_info("team/two").safetensors is None
    assert hub().get_safetensors_metadata("team/one").parameter_count == {"F32": 56}


def test_compositions_are_in_lists_before_they_are_built(pot: Pot, hub: Hub) -> None:
    planned, unforeseen = ask(pot, lazy=True), ask(pot, "soups/patch", output={"kind": "patch"})
    api = hub()
    listed = {model.id: model for model in api.list_models(author="soups", full=True)}
    assert listed["soups/mix"].sha == planned.digest[:40]
    assert "model.safetensors" in [file.rfilename for file in listed["soups/mix"].siblings or ()]
    assert unforeseen.commit is None
    assert listed["soups/patch"].siblings == []
    assert ids(api, filter=["merge", "base_model:team/one"]) == ["soups/mix"]
    refs = api.list_repo_refs("soups/mix")
    assert [(ref.name, ref.target_commit) for ref in refs.branches] == [("main", planned.digest[:40])]
    assert api.list_repo_refs("soups/patch").branches == []


def test_a_card_with_hostile_fields_breaks_no_client(pot: Pot, hub: Hub) -> None:
    card = (
        b"---\nignore_metadata_errors: 1\nmodel-index: nonsense\ntags: {a: b}\nbase_model: [1, x]\nid: team/two\n---\n"
    )
    publish(pot, "team/one", {"README.md": card})
    assert hub().model_info("team/one").id == "team/one"
    assert ids(hub(), cardData=True) == ["team/one"]


def test_paths_are_looked_up_by_name(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    api = hub()
    found = api.get_paths_info("team/one", ["deep", "config.json", "nothing", "deep/er/notes.txt"], expand=True)
    assert [type(entry) for entry in found] == [RepoFolder, RepoFile, RepoFile]
    assert found[1].last_commit is not None
    assert found[1].last_commit.oid == pot.inside.store.require_repo("team/one").head
    assert api.get_paths_info("team/one", [], revision="main") == []
    assert [entry.path for entry in api.get_paths_info("team/one", "README.md")] == ["README.md"]
    with pot.client() as caller:
        url = "/api/models/team/one/paths-info/main"
        assert [e["path"] for e in caller.post(url, json={"paths": ["/deep/"]}).json()] == ["deep"]
        for body in (b"[]", b'{"paths": 3}', b"{", b"null"):
            answer = caller.post(url, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400
        assert caller.post(url, content=b"paths=%ff").status_code == 400


def test_existence_has_an_answer(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    api = hub()
    assert api.repo_exists("team/one")
    assert not api.repo_exists("team/none")
    assert api.file_exists("team/one", "config.json")
    assert not api.file_exists("team/one", "none.json")
    assert not api.file_exists("team/none", "config.json")
    assert api.revision_exists("team/one", "main")
    assert not api.revision_exists("team/one", "no/such")
    api.auth_check("team/one")


def test_a_history_comes_in_pages_the_newest_first(pot: Pot, hub: Hub) -> None:
    for number in range(5):
        publish(pot, "team/one", {"a.txt": str(number).encode()})
    api = hub()
    commits = api.list_repo_commits("team/one", formatted=True)
    assert commits[0].commit_id == pot.inside.store.require_repo("team/one").head
    assert [commit.title for commit in commits] == ["Upload a.txt"] * 5
    assert commits[0].authors == ["open"]
    assert [c.commit_id for c in api.list_repo_commits("team/one", revision=commits[2].commit_id)] == [
        commit.commit_id for commit in commits[2:]
    ]
    with pot.client() as caller:
        answer = caller.get("/api/models/team/one/commits/main?limit=2&p=1")
        assert answer.headers["X-Total-Count"] == "5"
        assert [commit["id"] for commit in answer.json()] == [commit.commit_id for commit in commits[2:4]]
        assert "next" in answer.links
        assert caller.get("/api/models/team/one/commits/main?limit=2&p=9").json() == []
    with pytest.raises(RevisionNotFoundError):
        api.list_repo_commits("team/one", revision="none")


def test_a_token_knows_who_it_is(pot: Pot, hub: Hub) -> None:
    assert hub("hf_anything").whoami()["name"] == "open"
    publish(pot, "third/one", FILES)
    mine, everywhere = pot.token("write", namespaces=("team", "other")), pot.token("admin")
    me = hub(mine).whoami()
    assert (me["type"], me["name"], [org["name"] for org in me["orgs"]]) == ("user", "other", ["team"])
    assert me["auth"]["accessToken"]["displayName"] == "test"
    assert me["auth"]["accessToken"]["role"] == "write"
    assert [org["name"] for org in hub(everywhere).whoami()["orgs"]] == ["third"]
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        hub("hf_unknown").whoami()
    with pot.client() as nobody:
        assert nobody.get("/api/whoami-v2").status_code == 401
        assert nobody.get("/api/agent-harnesses").json()["harnesses"] == {}


def test_a_namespace_lists_what_it_has(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    publish(pot, "other/two", FILES)
    mine = pot.token("read", namespaces=("team",))
    found = list(hub(mine).list_user_repos())
    assert [(repo.id, repo.storage) for repo in found] == [("team/one", sum(map(len, FILES.values())))]
    assert [repo.id for repo in hub(mine).list_user_repos("team")] == ["team/one"]
    with pytest.raises(HfHubHTTPError):
        list(hub(mine).list_user_repos("other"))


def test_a_repo_is_a_file_system(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    files = HfFileSystem(endpoint=pot.url, token=False, skip_instance_cache=True)
    assert sorted(files.glob("team/one/**/*.txt")) == ["team/one/deep/er/notes.txt"]
    assert sorted(files.ls("team/one", detail=False)) == ["team/one/README.md", "team/one/config.json", "team/one/deep"]
    with files.open("team/one/config.json", "rb") as stream:
        stream.seek(3)
        assert stream.read(13) == CONFIG[3:16]
    assert files.exists("team/one/deep/er")
    assert not files.exists("team/one/none")
    assert files.info("team/one/config.json")["size"] == len(CONFIG)
