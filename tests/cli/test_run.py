"""baize run: one prompt, piped input, and the chat in a terminal."""

import json
import re

import pytest
from chat_model import ESCAPE, only_text
from tokenizers import Tokenizer

GREEDY = ["--temperature", "0"]


def answer(baize, model, prompt, *args, **kwargs):
    return baize.ok("run", model, prompt, *GREEDY, *args, **kwargs)


def tokenizer_of(model):
    return Tokenizer.from_file(str(model / "tokenizer.json"))


def ids_of(model, text):
    return tokenizer_of(model).encode(text, add_special_tokens=False).ids


def joined(ids):
    return ",".join(map(str, ids))


def test_answer_is_what_generate_says_about_the_rendered_prompt(baize, chat_model):
    ids = joined(ids_of(chat_model, "s:Be brief\nu:Hello\na:"))
    want = baize.json("generate", chat_model, "--ids", ids, "--max-tokens", 20, *GREEDY)["ids"]
    got = answer(baize, chat_model, "Hello", "--system", "Be brief", "--max-tokens", 20)
    assert got.rstrip("\n") == tokenizer_of(chat_model).decode(want).rstrip("\n")
    assert got != answer(baize, chat_model, "Hello", "--max-tokens", 20)


def test_piped_input_is_the_prompt_or_its_end(baize, chat_model):
    limits = ["--max-tokens", "12", *GREEDY]
    alone = baize.ok("run", chat_model, *limits, stdin="One two\n")
    assert alone == answer(baize, chat_model, "One two", "--max-tokens", 12)
    both = baize.ok("run", chat_model, "Count", *limits, stdin="One two\n")
    assert both == answer(baize, chat_model, "Count\n\nOne two", "--max-tokens", 12)
    assert both != alone


def test_template_variables(baize, chat_model):
    plain = answer(baize, chat_model, "x", "--max-tokens", 16)
    thinking = answer(baize, chat_model, "x", "--max-tokens", 16, "--think", "on")
    assert thinking != plain
    assert thinking == answer(baize, chat_model, "x", "--max-tokens", 16, "--var", "enable_thinking=true")
    assert plain == answer(baize, chat_model, "x", "--max-tokens", 16, "--think", "off")


def test_stop_string_ends_the_answer_before_it(baize, chat_model):
    whole = answer(baize, chat_model, "abc", "--max-tokens", 40).rstrip("\n")
    stop = whole[10:13]
    assert answer(baize, chat_model, "abc", "--max-tokens", 40, "--stop", stop).rstrip("\n") == whole[: whole.index(stop)]


def test_end_tokens_come_from_the_checkpoint(baize, make_chat_model):
    model = make_chat_model()
    whole = answer(baize, model, "abc", "--max-tokens", 40).rstrip("\n")
    end = next(c for c in whole[5:] if c not in whole[:5])
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, ids_of(model, end)[0]]}))
    assert answer(baize, model, "abc", "--max-tokens", 40).rstrip("\n") == whole[: whole.index(end)]
    long = answer(baize, model, "abc", "--max-tokens", 40, "--min-tokens", 30).rstrip("\n")
    assert len(long) >= 30 and end not in long[:30]


def test_default_sampling_comes_from_the_checkpoint(baize, make_chat_model):
    model = make_chat_model()
    (model / "generation_config.json").write_text(json.dumps({"do_sample": False}))
    greedy = baize.ok("run", model, "abc", "--max-tokens", 30)
    assert greedy == answer(baize, model, "abc", "--max-tokens", 30)
    (model / "generation_config.json").write_text(json.dumps({"temperature": 2.0, "top_k": 0, "top_p": 1.0}))
    assert len({baize.ok("run", model, "abc", "--max-tokens", 30) for _ in range(3)}) == 3
    seeded = [baize.ok("run", model, "abc", "--max-tokens", 30, "--seed", 7) for _ in range(2)]
    assert seeded[0] == seeded[1]


def test_model_without_template_continues_the_text(baize, make_chat_model):
    model = make_chat_model()
    (model / "tokenizer_config.json").write_text("{}")
    ids = joined(ids_of(model, "Once upon"))
    want = baize.json("generate", model, "--ids", ids, "--max-tokens", 15, *GREEDY)["ids"]
    assert answer(baize, model, "Once upon", "--max-tokens", 15).rstrip("\n") == tokenizer_of(model).decode(want).rstrip("\n")


def test_verbose_tells_the_speed(baize, chat_model):
    done = baize.run("run", chat_model, "abc", "-v", "--max-tokens", "5", *GREEDY)
    assert re.search(r"\[prompt \d+ tokens, [\d.]+ tokens/s; answer 5 tokens, [\d.]+ tokens/s; first token after [\d.]+ s\]",
                     done.stderr)
    assert "tokens/s" not in baize.run("run", chat_model, "abc", "--max-tokens", "5").stderr


def test_chat_remembers_and_computes_only_what_is_new(terminal, chat_model):
    # Tokens that are no text would be missing when the answer is read again.
    t = terminal("run", chat_model, *GREEDY, "--max-tokens", "10", *only_text())
    t.prompt()
    t.line("Hello")
    t.expect(r"\[prompt 10 tokens, .*\]\n")
    t.prompt()
    t.line("More")
    # "u:Hello\na:" and the answer but its last token are there; "\nu:More\na:" is new.
    t.expect(r"\[prompt \d+ tokens \(19 from cache\)")
    t.prompt()
    t.line("/show")
    t.expect(r"messages +4\n.*context +\d+ of 65536 tokens")
    t.prompt()
    t.line("/clear")
    t.prompt()
    t.line("/show")
    t.expect(r"messages +0\n")
    t.prompt()
    t.line("/bye")
    assert t.wait() == 0


def test_settings_in_the_chat(terminal, chat_model):
    t = terminal("run", chat_model, *GREEDY)
    t.prompt()
    t.line("/set max_tokens 3")
    t.prompt()
    t.line("hi")
    t.expect(r"answer 3 tokens")
    t.prompt()
    t.line("/set top_p 1.5")
    t.expect("top_p must be a number from 0 to 1, not 1.5")
    t.prompt()
    t.line("/set topp 1")
    t.expect('no setting "topp"; the closest are top_p')
    t.prompt()
    t.line("/set system Be kind")
    t.prompt()
    t.line("/set")
    t.expect(r"temperature +0 ")
    t.expect(r"system +Be kind ")
    t.prompt()
    t.line("/nonsense")
    t.expect("no command /nonsense; /help")
    t.prompt()
    t.line("/help")
    t.expect("/clear")
    t.prompt()
    t.send("\x04")
    assert t.wait() == 0


def test_keys_typed_during_an_answer_count(terminal, chat_model):
    t = terminal("run", chat_model, *GREEDY, "--max-tokens", "2000", "--min-tokens", "2000", "--backend", "ref")
    t.prompt()
    t.line("hi")
    t.expect(r"[^\n]{20}")
    t.line("/set seed 5")
    t.send("\x04")
    t.expect("answer 2000 tokens")
    t.expect("seed 5")
    assert t.wait() == 0


def test_lines_that_go_on(terminal, chat_model):
    t = terminal("run", chat_model, *GREEDY, "--max-tokens", "2")
    t.prompt()
    t.line('"""one')
    t.expect(r"\.\.\. ")
    t.line('two"""')
    t.expect(r"\[prompt 12 tokens")  # u:one\ntwo\na:
    t.prompt()
    t.line("one\\")
    t.expect(r"\.\.\. ")
    t.line("two")
    t.expect(r"\[prompt \d+ tokens")
    t.prompt()
    t.line("/bye")
    assert t.wait() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal, chat_model):
    t = terminal("run", chat_model, *GREEDY, "--backend", "ref")
    t.prompt()
    t.line("/set min_tokens 60000")
    t.prompt()
    t.line("Tell me all")
    t.expect(r"[^\n]{20}")
    t.send("\x03")
    made = int(t.expect(r"answer (\d+) tokens").group(1))
    assert 0 < made < 60000
    t.prompt()
    t.line("/set min_tokens 0")
    t.prompt()
    t.line("/set max_tokens 4")
    t.prompt()
    t.line("Again")
    t.expect("answer 4 tokens")
    t.prompt()
    t.send("\x03")
    t.expect("Ctrl-C again")
    t.prompt()
    t.send("\x03")
    assert t.wait() == 130


def test_ctrl_c_ends_a_single_answer(terminal, chat_model):
    t = terminal("run", chat_model, "Tell me all", *GREEDY, "--backend", "ref", "--min-tokens", "60000")
    t.expect(r"[^\n]{20}")
    t.send("\x03")
    assert t.wait() == 130


def test_history_survives_the_program(terminal, chat_model):
    for _ in range(2):
        t = terminal("run", chat_model, *GREEDY, "--max-tokens", "2")
        t.prompt()
        t.line("a memorable question") if _ == 0 else t.send("\x1b[A\x1b[A\r")
        t.expect("a memorable question")
        t.expect("answer 2 tokens")
        t.prompt()
        t.line("/bye")
        assert t.wait() == 0


def test_terminal_is_safe_from_control_characters(baize, terminal, chat_model):
    options = [*GREEDY, "--max-tokens", "5", "--logit-bias", f"{ESCAPE}=1000"]
    assert baize.ok("run", chat_model, "abc", *options) == 5 * "\x1b" + "\n"
    t = terminal("run", chat_model, "abc", *options)
    t.expect("answer 5 tokens")
    assert t.wait() == 0
    assert "\x1b" not in t.screen


def test_full_context_is_said(baize, make_chat_model):
    done = baize.run("run", make_chat_model(), "abc", *GREEDY, "--min-tokens", "200")
    assert done.returncode == 0
    assert "context is full" in done.stderr


@pytest.mark.parametrize("prompt, words", [("Why is the sky blue?", ["light", "scatter"]), ("Say hello.", ["Hello", "hello"])])
def test_the_default_model_makes_sense(stocked, prompt, words):
    text = stocked.ok("run", "smollm2:135m", prompt, *GREEDY, "--max-tokens", 40)
    assert any(word in text for word in words), text
