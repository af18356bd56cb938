"""Requests that are wrong: each gets its status and a sentence that names what is wrong."""

import json

import pytest
from running_server import wait_until

CHAT = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
TEXT = {"prompt": "x", "max_tokens": 1}


def error_of(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("param, change", [
    ("temperature", {"temperature": -1}),
    ("temperature", {"temperature": "hot"}),
    ("temperature", {"temperature": 1e308}),
    ("top_p", {"top_p": 1.5}),
    ("top_k", {"top_k": 1.5}),
    ("top_k", {"top_k": -1}),
    ("max_tokens", {"max_tokens": 0}),
    ("max_tokens", {"max_tokens": -5}),
    ("max_tokens", {"max_tokens": 1e30}),
    ("max_tokens", {"max_tokens": 18446744073709551615}),
    ("max_tokens", {"max_tokens": True}),
    ("min_tokens", {"min_tokens": 2}),
    ("n", {"n": 0}),
    ("n", {"n": 129}),
    ("seed", {"seed": 1e300}),
    ("seed", {"seed": "x"}),
    ("stop", {"stop": 5}),
    ("stop", {"stop": ["a", 5]}),
    ("stop", {"stop": ""}),
    ("stop", {"stop": ["x"] * 65}),
    ("stream", {"stream": "yes"}),
    ("stream_options", {"stream_options": {"include_usage": True}}),
    ("stream_options.x", {"stream": True, "stream_options": {"x": 1}}),
    ("logprobs", {"logprobs": 3}),
    ("top_logprobs", {"top_logprobs": 3}),
    ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
    ("logit_bias", {"logit_bias": [1]}),
    ("logit_bias", {"logit_bias": {"x": 1}}),
    ("logit_bias", {"logit_bias": {"1": 101}}),
    ("logit_bias", {"logit_bias": {"99999999999": 1}}),
    ("chat_template_kwargs", {"chat_template_kwargs": 5}),
    ("chat_template_kwargs", {"chat_template_kwargs": {"messages": []}}),
    ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
    ("tool_choice", {"tool_choice": "required"}),
    ("response_format", {"response_format": {"type": "json_object"}}),
    ("modalities", {"modalities": ["audio"]}),
    ("store", {"store": True}),
    ("model", {"model": 7}),
    ("temprature", {"temprature": 1}),
    ("best_of", {"best_of": 2}),
    ("messages", {"messages": []}),
    ("messages", {"messages": "hello"}),
    ("messages", {"messages": None}),
    ("messages[0]", {"messages": ["hello"]}),
    ("messages[0].role", {"messages": [{"content": "x"}]}),
    ("messages[0].role", {"messages": [{"role": "tool", "content": "x"}]}),
    ("messages[0].role", {"messages": [{"role": "robot", "content": "x"}]}),
    ("messages[0].content", {"messages": [{"role": "user"}]}),
    ("messages[0].content", {"messages": [{"role": "user", "content": 5}]}),
    ("messages[0].content[0]", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
    ("messages[0].tool_calls", {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}),
])
def test_chat_parameters(server, param, change):
    error = error_of(server.post("/v1/chat/completions", CHAT | change), 400)
    assert error["param"] == param and param.split("[")[0].split(".")[0] in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("param, change", [
    ("prompt", {"prompt": None}),
    ("prompt", {"prompt": 5}),
    ("prompt", {"prompt": {"a": 1}}),
    ("prompt", {"prompt": [1, "a"]}),
    ("prompt", {"prompt": [1, -1]}),
    ("prompt", {"prompt": [1, 4294967296]}),
    ("prompt", {"prompt": ["x"] * 257}),
    ("n", {"prompt": ["x"] * 100, "n": 3}),
    ("logprobs", {"logprobs": True}),
    ("logprobs", {"logprobs": 21}),
    ("best_of", {"n": 3, "best_of": 2}),
    ("best_of", {"best_of": 2, "stream": True}),
    ("max_completion_tokens", {"max_completion_tokens": 4}),
    ("suffix", {"suffix": "x"}),
])
def test_completion_parameters(server, param, change):
    error = error_of(server.post("/v1/completions", TEXT | change), 400)
    assert error["param"] == param and param in error["message"]


def test_tokens_outside_the_vocabulary(server):
    assert "500" in error_of(server.post("/v1/completions", TEXT | {"prompt": [500]}), 400)["message"]
    biased = error_of(server.post("/v1/completions", TEXT | {"logit_bias": {"500": 1}}), 400)
    assert "500" in biased["message"] and biased["param"] == "logit_bias"
    assert "500" in error_of(server.post("/detokenize", {"tokens": [500]}), 400)["message"]


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"5", b"null", b'{"messages": [}', b'{"messages": "\xff\xfe"}', b'{"a": 1e999}', b"\x00", b"nonsense",
    b"[" * 100000, b'{"messages":' + b"[" * 100000, b'{"prompt": "\\ud800"}', b'{"prompt": "x"} trailing',
])
def test_bodies_that_are_no_json(server, body):
    for path in ("/v1/chat/completions", "/v1/completions", "/tokenize"):
        error = error_of(server.post(path, content=body), 400)
        assert error["code"] == "invalid_json" and error["message"].startswith("the body")


def test_null_is_as_if_absent(server):
    names = ["stop", "logit_bias", "seed", "n", "temperature", "tools", "response_format", "user", "stream_options"]
    assert server.post("/v1/chat/completions", CHAT | dict.fromkeys(names)).status_code == 200


def test_what_changes_nothing_is_accepted(server):
    harmless = {"user": "me", "metadata": {"a": "b"}, "store": False, "response_format": {"type": "text"}, "tools": [],
                "tool_choice": "none", "modalities": ["text"]}
    assert server.post("/v1/chat/completions", CHAT | harmless).status_code == 200


def test_paths_and_methods(server):
    assert "/v1/models" in error_of(server.get("/v2/models"), 404)["message"]
    answer = server.get("/v1/chat/completions")
    assert "POST" in error_of(answer, 405)["message"] and answer.headers["allow"] == "POST"
    assert error_of(server.post("/health"), 405)


def test_template_that_refuses(start, make_model):
    refusing = start(models=[make_model(template="{{ raise_exception('roles must alternate') }}")])
    assert "roles must alternate" in error_of(refusing.post("/v1/chat/completions", CHAT), 400)["message"]


def test_keys(start):
    locked = start("--api-key", "first-key,second-key")
    assert error_of(locked.get("/v1/models"), 401)["code"] == "missing_api_key"
    for wrong in ("Bearer nope", "Bearer first-key2", "Bearer", "Basic first-key", "Bearer first-key,second-key"):
        answer = locked.get("/v1/models", headers={"Authorization": wrong})
        assert error_of(answer, 401)["type"] == "authentication_error" and "first-key" not in answer.text
    for key in ("first-key", "second-key"):
        assert [m.id for m in locked.client(key).models.list()] == ["tiny"]
    for path in ("/health", "/version", "/", "/docs", "/openapi.json"):
        assert locked.get(path).status_code == 200
    assert error_of(locked.get("/metrics"), 401)


def test_cross_origin(start, server):
    page = {"Origin": "https://good.example"}
    wanted = "authorization,content-type,x-stainless-lang"  # as OpenAI's client in a page asks
    preflight = page | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": wanted}
    assert not [h for h in server.get("/v1/models", headers=page).headers if h.startswith("access-control")]
    some = start("--cors", "https://good.example")
    assert some.get("/v1/models", headers=page).headers["access-control-allow-origin"] == "https://good.example"
    assert "access-control-allow-origin" not in some.get("/health", headers={"Origin": "https://bad.example"}).headers
    import httpx
    answer = httpx.options(some.url + "/v1/chat/completions", headers=preflight)
    assert answer.status_code == 204 and answer.headers["access-control-allow-headers"] == wanted
    refused = httpx.options(some.url + "/v1/chat/completions", headers=preflight | {"Origin": "https://bad.example"})
    assert refused.status_code == 405 and not [h for h in refused.headers if h.startswith("access-control")]
    everyone = start("--cors", "*")
    assert everyone.get("/health", headers={"Origin": "null"}).headers["access-control-allow-origin"] == "*"


def test_openapi_and_pages(server):
    document = server.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    chat = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert chat["required"] == ["messages"] and chat["properties"]["temperature"]["maximum"] == 100
    assert {"/tokenize", "/metrics", "/v1/models/{name}"} <= set(document["paths"])
    page = server.get("/docs")
    assert "text/html" in page.headers["content-type"] and "typical_p" in page.text
    chat_page = server.get("/")
    assert "<html" in chat_page.text and "frame-ancestors 'none'" in chat_page.headers["content-security-policy"]
    plain = server.get("/", headers={"Accept-Encoding": "identity"})
    assert plain.text == chat_page.text and "content-encoding" not in plain.headers


def test_health_and_version(baize, server):
    assert server.get("/health").json() == {"status": "ok"}
    assert "baize " + server.get("/version").json()["version"] == baize.ok("version").strip()


def test_metrics(start):
    own = start()
    for _ in range(3):
        assert own.post("/v1/completions", {"prompt": "hello", "max_tokens": 5, "ignore_eos": True}).status_code == 200
    own.post("/v1/completions", {"prompt": "hello", "tools": []})
    assert own.metric("baize_generated_tokens_total", model="tiny") == 15
    assert own.metric("baize_prompt_tokens_total") == 15
    assert own.metric("baize_time_to_first_token_seconds_count") == 3
    assert own.metric("baize_inter_token_seconds_count") == 12
    assert own.metric("baize_answers_total", reason="length") == 3
    assert own.metric("baize_errors_total", code="unknown_parameter") == 1
    wait_until(lambda: own.metric("baize_requests_running") == 0)
    assert own.metric("baize_engine_drawn_tokens_total") == 15
    text = own.get("/metrics").text
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {"baize_queue_seconds", "baize_cache_pages_used", "baize_preemptions_total"} <= names
