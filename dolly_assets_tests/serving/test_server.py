"""OpenAI's own client asks a server over models that were trained."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openai import APIError, RateLimitError

from dolly_assets.generation.dialogue import Dialogue, Settings
from dolly_assets.generation.model import load_with_template
from dolly_assets.registry import promotion
from dolly_assets.registry.model_folders import fetch
from dolly_assets_tests.home import Home
from dolly_assets_tests.serving.conftest import TOKEN, Served, serving
from dolly_assets_tests.tiny_training import tiny_family
from dolly_assets_tests.waiting import wait_until

pytestmark = pytest.mark.slow

MODEL = "tiny/animals/2"
QUESTIONS = ("How many legs has a hen?", "Legs of a cod?", "cat: legs?")
LONG = {"temperature": 1.5, "max_tokens": 90, "seed": 3}  # what the model answers without an end


def messages(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def chat_answer(served: Served, epoch: int, question: str, **settings: Any) -> str:
    """What `dolly chat` answers."""
    checkpoint = served.store.latest(f"tiny/model_checkpoint/animals/{epoch:02}")
    assert checkpoint
    folders = fetch(served.store, checkpoint)
    style = tiny_family().prompt_style
    loaded = load_with_template(folders.weights, style, template=folders.template)
    return Dialogue(loaded, Settings(max_new_tokens=40, **settings)).ask(question).text


def test_the_list_has_what_the_store_has(served: Served) -> None:
    found = {model.id: model for model in served.client().models.list()}
    assert {f"tiny/animals/{epoch}" for epoch in (0, 1, 2)} <= found.keys()
    checkpoint = served.store.latest("tiny/model_checkpoint/animals/02")
    assert checkpoint
    stated = found[MODEL].model_extra["dolly"]
    assert stated == {
        "artifact": checkpoint.name,
        "digest": checkpoint.digest,
        "epoch": 2,
        "stage": None,
    }
    assert served.client().models.retrieve(MODEL).owned_by == "tiny"


def test_it_answers_as_the_chat_does(served: Served) -> None:
    for question in QUESTIONS:
        answer = served.client().chat.completions.create(
            model=MODEL, messages=messages(question), temperature=0, max_tokens=40
        )
        assert answer.choices[0].message.content == chat_answer(served, 2, question, temperature=0)
    sampled = served.client().chat.completions.create(
        model=MODEL, messages=messages("cat?"), temperature=0.7, top_p=0.95, seed=4, max_tokens=40
    )
    assert sampled.choices[0].message.content == chat_answer(served, 2, "cat?", seed=4)


def test_a_stream_has_the_whole_answer_whoever_asks_beside_it(served: Served) -> None:
    client = served.client()

    def whole(seed: int) -> Any:
        return client.chat.completions.create(
            model=MODEL, messages=messages("Legs of a cod?"), **{**LONG, "seed": seed}
        )

    def streamed(seed: int) -> list[Any]:
        return [
            *client.chat.completions.create(
                model=MODEL,
                messages=messages("Legs of a cod?"),
                stream=True,
                stream_options={"include_usage": True},
                **{**LONG, "seed": seed},
            )
        ]

    alone = [whole(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = [*pool.map(streamed, range(8))]
    assert len({answer.choices[0].message.content for answer in alone}) > 1
    for answer, chunks in zip(alone, together, strict=True):
        *pieces, last = chunks
        text = "".join(each.choices[0].delta.content or "" for each in pieces)
        assert text == answer.choices[0].message.content
        assert pieces[-1].choices[0].finish_reason == answer.choices[0].finish_reason
        assert last.usage == answer.usage
        assert {each.system_fingerprint for each in chunks} == {answer.system_fingerprint}


def test_completions_continue_texts_and_ids(served: Served) -> None:
    create = served.client().completions.create
    both = create(model=MODEL, prompt=["cat: legs?", "hen"], temperature=0, max_tokens=5)
    for at, prompt in enumerate(("cat: legs?", "hen")):
        one = create(model=MODEL, prompt=prompt, temperature=0, max_tokens=5)
        assert one.choices[0].text == both.choices[at].text
    ids = create(model=MODEL, prompt=[5, 6, 7], temperature=0, max_tokens=5)
    assert ids.usage.prompt_tokens == 3
    chunks = create(model=MODEL, prompt="hen", temperature=0, max_tokens=5, stream=True)
    assert "".join(each.choices[0].text for each in chunks) == both.choices[1].text


def test_an_answer_ends_at_a_stop_text_or_its_limit(served: Served) -> None:
    def ask(**options: Any) -> Any:
        asked = {"model": MODEL, "messages": messages("cat?"), **LONG, **options}
        return served.client().chat.completions.create(**asked)

    whole = ask()
    text = whole.choices[0].message.content
    stopped = ask(stop=[text[4:6]])
    assert stopped.choices[0].message.content == text[: text.index(text[4:6])].strip()
    assert stopped.choices[0].finish_reason == "stop"
    short = ask(max_tokens=None, max_completion_tokens=3)
    assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 3)


@pytest.mark.parametrize(
    ("changed", "status", "named"),
    [
        ({"model": "tiny/animals/7"}, 404, "tiny/animals/7"),
        ({"model": "../../etc"}, 404, "another form"),
        ({"n": 2}, 400, "n:"),
        ({"tools": [{"type": "function"}]}, 400, "tools:"),
        ({"frequency_penalty": 1.0}, 400, "frequency_penalty:"),
        ({"top_k": 3}, 400, "top_k: this server does not know it"),
        ({"temperature": 3}, 400, "temperature:"),
        ({"max_tokens": 0}, 400, "max_tokens:"),
        ({"max_tokens": 101}, 400, "max_tokens: expected at most 100"),
        ({"messages": []}, 400, "messages:"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "messages.0.role:"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "the last message"),
        ({"messages": [{"role": "user", "content": "x" * 200}]}, 400, "context has 128"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages.0"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, "JSON"),
        ({"stop": [""]}, 400, "stop:"),
    ],
)
def test_a_wrong_request_is_refused_by_name(
    served: Served, changed: dict[str, Any], status: int, named: str
) -> None:
    body = {"model": MODEL, "messages": messages("x"), **changed}
    answer = post(served, json.dumps(body))
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert named in error["message"]
    assert error.keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("{", {}, 400),
        ("[1]", {}, 400),
        ("{}", {"Content-Type": "text/plain"}, 415),
        ("{}", {"Authorization": "Bearer wrong"}, 401),
        ("{}", {"Authorization": ""}, 401),
        (b" " * (10 << 20), {}, 413),
    ],
)
def test_what_is_no_request_is_refused(
    served: Served, body: Any, headers: dict[str, str], status: int
) -> None:
    assert post(served, body, **headers).status_code == status


def post(served: Served, body: Any, **headers: str) -> httpx.Response:
    own = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}", **headers}
    return httpx.post(f"{served.url}/chat/completions", content=body, headers=own)


def test_paths_that_are_not_served_are_refused_in_the_same_form(served: Served) -> None:
    for method, path, status in (("GET", "/v1/x", 404), ("GET", "/v1/completions", 405)):
        root = served.url.removesuffix("/v1")
        answer = httpx.request(method, root + path, headers={"Authorization": f"Bearer {TOKEN}"})
        assert (answer.status_code, "error" in answer.json()) == (status, True)
    assert httpx.get(f"{root}/health").json() == {"status": "ready"}


def test_few_models_are_loaded(served: Served) -> None:
    for epoch in (0, 1, 2, 1):
        served.client().chat.completions.create(
            model=f"tiny/animals/{epoch}", messages=messages("cat?"), max_tokens=2
        )
        assert served.metric("loaded_models") <= 2


def test_a_client_that_hangs_up_frees_its_place(served: Served) -> None:
    before = served.metric("answer_tokens_total")
    many = served.client().completions.create(model=MODEL, prompt=["cat"] * 64, stream=True, **LONG)
    next(iter(many))
    many.close()
    wait_until(lambda: served.metric("running_requests") == 0)
    wait_until(lambda: served.metric("waiting_requests") == 0)
    assert served.metric("answer_tokens_total") - before < 64 * LONG["max_tokens"]


def test_a_promotion_changes_the_champion_while_streams_run(served: Served) -> None:
    client, family = served.client(), tiny_family()
    author = promotion.Author("tester", "a test", {})
    champion = "tiny/animals/champion"

    def promote(epoch: int) -> str:
        placed = promotion.promote(
            served.store, family, "animals", to="production", author=author, epoch=epoch
        )
        return str(placed.manifest.attributes["checkpoint"])

    first = promote(1)
    ask = client.chat.completions.create
    running = ask(model=champion, messages=messages("cat?"), stream=True, **LONG)
    chunks = [next(iter(running))]
    second = promote(2)
    wait_until(
        lambda: (
            ask(model=champion, messages=messages("x"), max_tokens=1).system_fingerprint == second
        )
    )
    chunks += running
    assert {each.system_fingerprint for each in chunks} == {first}
    assert chunks[-1].choices[0].finish_reason


def test_a_stream_ends_whole_when_the_server_is_stopped(trained: Home) -> None:
    with serving(trained, MODEL) as other:
        asked = {"prompt": ["cat"] * 4, "stream": True, **LONG, "max_tokens": 30}
        chunks = other.client().completions.create(model=MODEL, **asked)
        found = [next(iter(chunks))]
        other.process.send_signal(signal.SIGTERM)
        found += chunks
    ended = [each.choices[0].index for each in found if each.choices[0].finish_reason]
    assert sorted(ended) == [*range(4)]


def test_a_server_asked_to_end_at_once_tells_those_who_wait(trained: Home) -> None:
    with serving(trained, "--batch", "1", "--grace", "0", MODEL) as other:
        asked = {"prompt": ["cat"] * 64, "stream": True, **LONG}
        chunks = other.client().completions.create(model=MODEL, **asked)
        next(iter(chunks))
        other.process.send_signal(signal.SIGTERM)
        with pytest.raises(APIError, match="shutting down"):
            list(chunks)


def test_more_requests_than_allowed_are_refused_with_when_to_ask_again(trained: Home) -> None:
    with serving(trained, "--requests", "1", "--rate", "4", MODEL) as other:
        create = other.client().completions.create
        stream = create(model=MODEL, prompt=["cat"] * 8, stream=True, **LONG)
        next(iter(stream))
        with pytest.raises(RateLimitError) as full:
            create(model=MODEL, prompt="cat", max_tokens=1)
        assert (full.value.code, full.value.response.headers["Retry-After"]) == ("queue_full", "2")
        stream.close()
        wait_until(lambda: other.metric("running_requests") == 0)
        create(model=MODEL, prompt="cat", max_tokens=1)
        create(model=MODEL, prompt="cat", max_tokens=1)
        with pytest.raises(RateLimitError, match="more than 4 requests in a minute") as many:
            create(model=MODEL, prompt="cat", max_tokens=1)
        assert many.value.code == "rate_limit_exceeded"
        assert 0 < int(many.value.response.headers["Retry-After"]) <= 15
        httpx.get(other.url.replace("/v1", "/health")).raise_for_status()


def test_other_machines_need_a_token(trained: Home) -> None:
    refused = trained.dolly("serve", "--host", "0.0.0.0", code=2)
    assert "--host 0.0.0.0 lets other machines ask without a token" in refused
    short = trained.path / "token"
    short.write_text("secret")
    refused = trained.dolly("serve", "--host", "0.0.0.0", "--token-file", str(short), code=2)
    assert "expected a token of at least 16 ASCII characters" in refused
    assert "secret" not in refused
