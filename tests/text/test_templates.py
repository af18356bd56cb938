"""Prompts equal those of the Python library transformers, from the models' own templates and from those of templates/."""

import datetime
import json
from pathlib import Path

import pytest
from transformers.utils import chat_template_utils

from text_samples import TEXTS
from text_tool import TOKENIZERS, TextError

FOLDER = Path(__file__).parent / "templates"
NOW = 1_722_000_123  # Friday, 26 July 2024, 13:22:03 UTC

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather at a place & time <now>",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "City, e.g. 'Zürich'"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": ["integer", "null"], "default": 3},
                "limits": {"type": "array", "items": {"type": "number"}, "nullable": True},
                "area": {"type": "object", "properties": {"lat": {"type": "number", "default": 47.0}}, "required": ["lat"]},
                "when": {"oneOf": [{"type": "string", "description": "a date"}, {"type": "integer"}]},
            },
            "required": ["place"],
        },
        "strict": True,
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time", "description": "The time", "parameters": {"type": "object", "properties": {}}}}


def call(name, arguments, id="abcdef123"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


SYSTEM = {"role": "system", "content": "Be brief.\nAnd kind. "}
RESULT = {"role": "tool", "tool_call_id": "abcdef123", "content": '{"t": 21.5}', "name": "get_weather"}
CONVERSATIONS = {
    "one": [user("Hi")],
    "system": [SYSTEM, user("  Hello there!  ")],
    "turns": [SYSTEM, user("1"), assistant(" one "), user("2"), assistant("two"), user("3")],
    "done": [user("1"), assistant("one")],
    "out_of_order": [user("1"), user("2")],
    "only_assistant": [assistant("x")],
    "thought": [user("a"), assistant("<think>\nhm\n</think>\n\nyes"), user("b"), assistant("<think>\nwell\n</think>\n\nno")],
    "reasoning": [user("a"), assistant("yes", reasoning_content=" because ")],
    "call": [SYSTEM, user("Weather?"), assistant(None, tool_calls=[call("get_weather", {"place": "Zürich", "days": 2})]), RESULT],
    "call_text": [user("Weather?"), assistant("", tool_calls=[call("get_weather", '{"place": "Bern"}')]), RESULT, assistant("21.5")],
    "calls": [user("?"), assistant("So:", tool_calls=[call("get_time", {}), call("get_weather", {"place": "A"})]), RESULT, RESULT],
    "bad_call_id": [user("?"), assistant(None, tool_calls=[call("get_time", {}, "short")])],
    "result_first": [user("?"), RESULT],
    "parts": [user([{"type": "text", "text": "look "}, {"type": "image"}, {"type": "text", "text": "here"}])],
    "developer": [{"role": "developer", "content": "Rules"}, user("Go")],
    "empty": [user("")],
    "null": [user(None)],
    "no_content": [{"role": "user"}],
    "markup": [user("<b>&amp;\"'</b> {{ x }} {% if %} <|im_end|>")],
    "texts": [user(text) for text in TEXTS if "\x00" not in text],
    "many": [(user if i % 2 == 0 else assistant)(f"line {i}\n") for i in range(9)],
    "nothing": [],
}
OPTIONS = {
    "plain": {},
    "prompt": {"add_generation_prompt": True},
    "tools": {"tools": [WEATHER, CLOCK], "add_generation_prompt": True},
    "no_thinking": {"add_generation_prompt": True, "variables": {"enable_thinking": False, "reasoning_effort": "high"}},
    "variables": {
        "tools": [CLOCK],
        "variables": {"tools_with_question": False, "date_string": "1 Jan 2030", "system": "s", "reasoning_effort": "absurd"},
    },
}
CONSTANTS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def package_templates():
    for name in ["llama3_1", "qwen3", "gemma3", "deepseek_v3"]:
        config = json.loads((TOKENIZERS / name / "tokenizer_config.json").read_text(encoding="utf-8"))
        yield pytest.param(config["chat_template"], id=name)


def own_templates():
    for path in sorted(FOLDER.glob("*.jinja")):
        yield pytest.param(path.read_text(encoding="utf-8"), id=path.stem)


class FrozenTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)


def expected(template, messages, tools=None, variables=None, add_generation_prompt=False):
    """The prompt, or the class of the failure."""
    try:
        (text,), _ = chat_template_utils.render_jinja_template(
            [messages], tools=tools, chat_template=template, add_generation_prompt=add_generation_prompt,
            **{**CONSTANTS, **(variables or {})})  # fmt: skip
        return text
    except Exception as error:
        return error


@pytest.fixture(autouse=True)
def frozen(monkeypatch):
    monkeypatch.setattr(chat_template_utils, "datetime", FrozenTime)


@pytest.mark.parametrize("template", [*package_templates(), *own_templates()])
def test_prompt(tool, template):
    rendered = 0
    for conversation, messages in CONVERSATIONS.items():
        for option, arguments in OPTIONS.items():
            reference = expected(template, messages, **arguments)
            request = {"template": template, "messages": messages, "constants": CONSTANTS, "now": NOW, **arguments}
            if isinstance(reference, Exception):
                with pytest.raises(TextError) as error:
                    print(tool.call("render", **request))
                assert error.value.args[1] == "invalid_argument"
                if type(reference).__name__ == "TemplateError":  # raise_exception
                    assert str(reference) in error.value.args[0]
            else:
                assert tool.call("render", **request) == reference, (conversation, option)
                rendered += 1
    assert rendered > 5


def test_the_models_own_template(tool):
    """The special tokens come from the folder."""
    tool.call("load", folder=str(TOKENIZERS / "gemma3"))
    messages = [SYSTEM, user("Hi")]
    assert tool.call("render", messages=messages) == "<bos><start_of_turn>user\nBe brief.\nAnd kind. \n\nHi<end_of_turn>\n"
    tool.call("load", folder=str(TOKENIZERS / "llama2"))  # has no template: a plain one, with bos where it is added
    text = tool.call("render", messages=[SYSTEM, user([{"type": "text", "text": "Hi"}])], add_generation_prompt=True)
    assert text == "<s>system: Be brief.\nAnd kind. \n\nuser: Hi\n\nassistant:"
    assert tool.encode(text)[0] == 1


def test_folder_layouts(tool, tmp_path):
    """Every place where templates and special tokens may stand."""
    tokenizer = {
        "added_tokens": [],
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<e>": 3}, "merges": ["a b"]},
        "decoder": {"type": "Fuse"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert tool.call("load", folder=str(tmp_path))["special_tokens"] == {}
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    config = {
        "bos_token": {"__type": "AddedToken", "content": "<b>", **flags},
        "additional_special_tokens": ["<extra>"],
        "extra_special_tokens": {"image_token": "<image>"},
        "add_bos_token": True,
        "add_eos_token": True,
        "added_tokens_decoder": {"5": {"content": "<later>", **flags, "special": False}, "4": {"content": "<b>", **flags}},
        "chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<e>", "unk_token": None}))
    info = tool.call("load", folder=str(tmp_path))
    assert info["special_tokens"] == {"bos_token": "<b>", "eos_token": "<e>", "image_token": "<image>"}
    assert (info["bos"], info["eos"], info["vocab_size"]) == (4, 3, 8)
    assert info["special"] == [3, 4, 6, 7]
    assert tool.encode("ab<later><e>", add_special=True) == [4, 2, 5, 3, 3]
    assert tool.encode("ab<e>", plain=True) == [2]  # "<", "e", ">" are no tokens here
    assert tool.call("render", messages=[]) == "D" and tool.call("render", messages=[], tools=[CLOCK]) == "T"
    (tmp_path / "chat_template.jinja").write_text("J")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("R")
    assert tool.call("load", folder=str(tmp_path))["chat_templates"] == {"default": "J", "rag": "R", "tool_use": "T"}


@pytest.mark.parametrize("file, content, kind, words", [
    ("tokenizer.json", None, "not_found", "has no tokenizer.json"),
    ("tokenizer.json", "{", "corrupt", "EOF"),
    ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}', "corrupt", "-1"),
    ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {"a": 4294967295}, "merges": []}}', "corrupt", "too large"),
    ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {}, "merges": ["a"]}}', "corrupt", "`a`"),
    ("tokenizer.json", '{"model": {"type": "Oracle"}}', "corrupt", "Oracle"),
    ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {}, "merges": []}, "pre_tokenizer": {"type": "Split", "pattern": '
     '{"Regex": "(("}, "behavior": "Isolated", "invert": false}}', "corrupt", "parenthesis"),
    ("tokenizer_config.json", "[]", "corrupt", "JSON object"),
    ("tokenizer_config.json", "\xff", "corrupt", "not valid JSON"),
])  # fmt: skip
def test_broken_folder(tool, tmp_path, file, content, kind, words):
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}')
    tool.call("load", folder=str(tmp_path))
    (tmp_path / file).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / file).write_text(content, encoding="latin-1")
    with pytest.raises(TextError) as error:
        tool.call("load", folder=str(tmp_path))
    assert error.value.args[1] == kind and words in error.value.args[0] and str(tmp_path) in error.value.args[0]
