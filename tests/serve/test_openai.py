"""The official OpenAI client against the program: it must not notice a difference."""

import json
import math

import openai
import pytest

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say something."}]


@pytest.fixture(scope="module")
def client(server):
    return server.client()


@pytest.fixture
def ask(client, only_text):
    def call(**options):
        request = dict(model="tiny-chat", messages=MESSAGES, temperature=0, max_tokens=24, logit_bias=only_text)
        return client.chat.completions.create(**(request | options))

    return call


@pytest.fixture
def complete(client, only_text):
    def call(prompt="Once upon", **options):
        request = dict(model="tiny-chat", prompt=prompt, temperature=0, max_tokens=24, logit_bias=only_text)
        return client.completions.create(**(request | options))

    return call


def test_models(client):
    assert [m.id for m in client.models.list()] == ["tiny-chat"]
    assert client.models.retrieve("tiny-chat").object == "model"
    with pytest.raises(openai.NotFoundError, match="tiny-chat"):
        client.models.retrieve("gpt-4")


def test_chat(ask):
    answer = ask()
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-") and answer.model == "tiny-chat"
    choice = answer.choices[0]
    assert choice.index == 0 and choice.finish_reason == "length" and choice.message.role == "assistant"
    assert len(choice.message.content) == 24 and choice.message.refusal is None and choice.logprobs is None
    usage = answer.usage
    assert usage.prompt_tokens == len("s:Be brief.\nu:Say something.\na:") - 1  # "th" is one token
    assert usage.completion_tokens == 24 and usage.total_tokens == usage.prompt_tokens + 24
    assert 0 <= usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens


def test_cached_tokens(ask):
    messages = [{"role": "user", "content": "x" * 300}]
    ask(messages=messages)
    again = ask(messages=messages)
    assert again.usage.prompt_tokens_details.cached_tokens >= 256


def test_chat_stream(ask):
    whole = ask().choices[0].message.content
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    assert len({c.id for c in chunks}) == 1 and all(c.object == "chat.completion.chunk" for c in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == whole
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
    assert all(c.usage is None for c in chunks[:-1])
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 24
    assert all(c.usage is None for c in ask(stream=True))


def test_stream_helper_of_the_client(client, ask, only_text):
    with client.chat.completions.stream(model="tiny-chat", messages=MESSAGES, temperature=0, max_tokens=24,
                                        logit_bias=only_text) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
    assert text == ask().choices[0].message.content


def test_length(ask, complete):
    assert len(ask(max_tokens=5).choices[0].message.content) == 5
    assert ask(max_tokens=openai.omit, max_completion_tokens=7).usage.completion_tokens == 7
    assert complete(max_tokens=3).usage.completion_tokens == 3
    assert complete(max_tokens=9, extra_body={"min_tokens": 9, "ignore_eos": True}).usage.completion_tokens == 9


def test_stop(ask, complete):
    whole = ask().choices[0].message.content
    at = whole.index(whole[8:10])
    for stop in (whole[8:10], ["never there", whole[8:10]]):
        answer = ask(stop=stop)
        assert answer.choices[0].message.content == whole[:at] and answer.choices[0].finish_reason == "stop"
        streamed = list(ask(stop=stop, stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in streamed) == whole[:at]
        assert streamed[-1].choices[0].finish_reason == "stop"
    text = complete().choices[0].text
    assert complete(stop=text[4]).choices[0].text == text[: text.index(text[4])]


def test_end_token(ask):
    answer = ask(logit_bias={"2": 100})  # </s>
    assert answer.choices[0].finish_reason == "stop" and answer.choices[0].message.content == ""
    held = ask(logit_bias={"2": 100, "50": 90}, extra_body={"min_tokens": 3})
    assert held.usage.completion_tokens == 3
    assert ask(logit_bias={"2": 100}, extra_body={"ignore_eos": True}).choices[0].finish_reason == "length"


def test_n_and_seed(ask):
    hot = dict(temperature=2.0, n=3, seed=11, extra_body={"top_k": 0}, top_p=1)
    answer = ask(**hot)
    texts = [c.message.content for c in answer.choices]
    assert [c.index for c in answer.choices] == [0, 1, 2] and len(set(texts)) == 3
    assert [c.message.content for c in ask(**hot).choices] == texts
    assert answer.usage.completion_tokens == sum(len(t) for t in texts)
    streamed = ["", "", ""]
    reasons = {}
    for chunk in ask(**hot, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason
    assert streamed == texts and reasons == {0: "length", 1: "length", 2: "length"}
    assert ask(**(hot | {"seed": 12})).choices[0].message.content != texts[0]


def test_sampling_parameters(ask):
    greedy = ask().choices[0].message.content
    for narrow in ({"top_k": 1}, {"min_p": 1}, {"top_p": 0}, {"typical_p": 0.0001}):
        hot = ask(temperature=1.5, extra_body=narrow).choices[0].message.content
        assert hot == greedy or "typical_p" in narrow
    assert ask(logit_bias={"77": 100}).choices[0].message.content == ask(logit_bias={"77": 100}).choices[0].message.content
    never_twice = ask(presence_penalty=100).choices[0].message.content
    assert len(set(never_twice)) == 24
    assert ask(frequency_penalty=100).choices[0].message.content == never_twice
    assert ask(extra_body={"repetition_penalty": 5}).choices[0].message.content != greedy


def test_completion(complete):
    answer = complete()
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
    assert len(answer.choices[0].text) == 24 and answer.choices[0].finish_reason == "length"
    chunks = list(complete(stream=True))
    assert "".join(c.choices[0].text for c in chunks) == answer.choices[0].text


def test_prompts_of_every_form(server, complete):
    texts = ["Once upon", "Twice below"]
    ids = [server.post("/tokenize", {"prompt": text}).json()["tokens"] for text in texts]
    want = [complete(text).choices[0].text for text in texts]
    assert [c.text for c in complete(texts).choices] == want
    assert complete(ids[0]).choices[0].text == want[0]
    assert [c.text for c in complete(ids).choices] == want
    two_each = complete(texts, n=2)
    assert [c.index for c in two_each.choices] == [0, 1, 2, 3]
    assert [c.text for c in two_each.choices] == [want[0], want[0], want[1], want[1]]


def test_echo(complete):
    plain = complete().choices[0].text
    assert complete(echo=True).choices[0].text == "Once upon" + plain
    assert "".join(c.choices[0].text for c in complete(echo=True, stream=True)) == "Once upon" + plain
    only = complete(echo=True, max_tokens=0)
    assert only.choices[0].text == "Once upon" and only.usage.completion_tokens == 0


def test_return_token_ids(server, ask, complete):
    ids = server.post("/tokenize", {"prompt": "Once upon"}).json()["tokens"]
    answer = complete(extra_body={"return_token_ids": True}).choices[0]
    assert answer.prompt_token_ids == ids and len(answer.token_ids) == 24
    assert server.post("/detokenize", {"tokens": answer.token_ids}).json()["prompt"] == answer.text
    chat = ask(extra_body={"return_token_ids": True})
    assert chat.prompt_token_ids == server.post("/tokenize", {"messages": MESSAGES}).json()["tokens"]
    streamed = list(ask(stream=True, extra_body={"return_token_ids": True}))
    assert streamed[0].choices[0].prompt_token_ids == chat.prompt_token_ids
    tokens = [i for c in streamed for i in getattr(c.choices[0], "token_ids", None) or []]
    assert tokens == chat.choices[0].token_ids


def test_content_parts_and_developer(server):
    def tokens(messages):
        return server.post("/tokenize", {"messages": messages}).json()["tokens"]

    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert tokens([{"role": "user", "content": parts}]) == tokens([{"role": "user", "content": "one\ntwo"}])
    assert tokens([{"role": "developer", "content": "x"}]) == tokens([{"role": "system", "content": "x"}])


def test_template_variables(server):
    def text(**options):
        ids = server.post("/tokenize", {"messages": [{"role": "user", "content": "x"}]} | options).json()["tokens"]
        return server.post("/detokenize", {"tokens": ids}).json()["prompt"]

    assert text() == "u:x\na:"
    assert text(chat_template_kwargs={"enable_thinking": True}) == "u:x\nthink a:"


def test_thoughts(start, make_model, only_text):
    opens = "{% for m in messages %}{{ m.content }}{% endfor %}a:{{ '<think>\n' }}{% if false %}</think>{% endif %}"
    thinks = start(models=[make_model(template=opens)])
    client = thinks.client()
    request = dict(model="tiny", messages=MESSAGES, temperature=0, max_tokens=20, logit_bias=only_text)
    answer = client.chat.completions.create(**request)
    assert answer.choices[0].message.content == "" and len(answer.choices[0].message.reasoning_content) > 10
    assert answer.usage.completion_tokens_details.reasoning_tokens == 20
    chunks = list(client.chat.completions.create(**request, stream=True))
    joined = "".join(getattr(c.choices[0].delta, "reasoning_content", "") or "" for c in chunks)
    assert joined == answer.choices[0].message.reasoning_content


def test_errors_are_those_of_the_client(client, ask):
    with pytest.raises(openai.NotFoundError, match="tiny-chat") as missing:
        ask(model="gpt-4")
    assert missing.value.code == "model_not_found" and missing.value.param == "model"
    with pytest.raises(openai.BadRequestError) as tools:
        ask(tools=[{"type": "function", "function": {"name": "f"}}])
    assert tools.value.param == "tools" and tools.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="16384") as long:
        ask(messages=[{"role": "user", "content": "y" * 20000}])
    assert long.value.code == "context_length_exceeded" and "20005" in str(long.value)


def test_chat_logprobs(ask):
    answer = ask(logprobs=True, top_logprobs=3, logit_bias={}, max_tokens=8)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert token.logprob <= 0 and bytes(token.bytes).decode() == token.token
        best = [t.logprob for t in token.top_logprobs]
        assert len(best) == 3 and best == sorted(best, reverse=True) and sum(map(math.exp, best)) <= 1.001
        assert token.top_logprobs[0].token == token.token  # greedy
    chunks = list(ask(logprobs=True, top_logprobs=3, logit_bias={}, max_tokens=8, stream=True))
    streamed = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert [t.token for t in streamed] == [t.token for t in tokens]
    assert ask(logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


def test_completion_logprobs(complete):
    choice = complete(logprobs=2).choices[0]
    found = choice.logprobs
    assert "".join(found.tokens) == choice.text and len(found.token_logprobs) == 24
    assert found.text_offset == list(range(24)) and all(len(top) == 2 for top in found.top_logprobs)
    echoed = complete(logprobs=2, echo=True).choices[0]
    assert "".join(echoed.logprobs.tokens) == echoed.text
    assert echoed.logprobs.token_logprobs[0] is None and echoed.logprobs.top_logprobs[0] is None
    assert all(p < 0 for p in echoed.logprobs.token_logprobs[1:])
    assert echoed.logprobs.token_logprobs[-24:] == pytest.approx(found.token_logprobs, abs=1e-3)
    scored = complete("Once upon", logprobs=0, echo=True, max_tokens=0).choices[0].logprobs
    assert scored.token_logprobs[1:] == pytest.approx(echoed.logprobs.token_logprobs[1:9], abs=1e-3)


def test_best_of(complete):
    hot = dict(temperature=2.0, top_p=1, seed=5, logprobs=0, logit_bias={}, max_tokens=6)

    def mean(choice):
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    every = sorted((mean(c) for c in complete(n=6, **hot).choices), reverse=True)
    best = complete(n=2, best_of=6, **hot)
    assert [mean(c) for c in best.choices] == pytest.approx(every[:2], abs=1e-3)
    assert [c.index for c in best.choices] == [0, 1] and best.usage.completion_tokens > 2 * 6
