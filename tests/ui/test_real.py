"""The chat page inside the program, with the default model."""

import gzip
import re
import urllib.error

import pytest
from browser_chat import Chat, RealServer
from playwright.sync_api import expect


def test_the_program_holds_the_page(real_server, page_file):
    with real_server.get("") as reply:
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert reply.read() == page_file.read_bytes()
    with real_server.get("", **{"accept-encoding": "gzip"}) as reply:
        assert reply.headers["content-encoding"] == "gzip"
        assert gzip.decompress(reply.read()) == page_file.read_bytes()


def test_a_conversation(real_chat):
    chat = real_chat
    chat.ask("What is the capital of France?")
    assert len(chat.texts()[1]) > 20
    figures = chat.answer.locator(".figures").inner_text()
    assert re.search(r"tokens/s", figures) and re.search(r"first token after", figures)
    prompt = int(re.search(r"prompt (\d+) tokens", figures)[1])
    assert 10 < prompt < 100
    # The second question shares the first's tokens.
    chat.ask("And of Italy?")
    cached = re.search(r"prompt (\d+) tokens \((\d+) from cache\)", chat.answer.locator(".figures").inner_text())
    assert cached and prompt <= int(cached[2]) < int(cached[1])


def test_another_answer(real_chat):
    chat = real_chat
    chat.ask("Name three colours.")
    first = chat.texts()[1]
    chat.button("Answer again").click()
    expect(chat.answer.locator(".versions")).to_have_text("2 / 2")
    chat.settled()
    assert first and chat.texts()[1]
    chat.answer.get_by_role("button", name="Previous version").click()
    expect(chat.answer.locator(".versions")).to_have_text("1 / 2")
    chat.expect_texts("Name three colours.", first)


def test_stopping(real_chat, real_server):
    chat = real_chat
    chat.page.keyboard.press("Control+,")
    chat.page.get_by_label("Longest answer").fill("2000")
    chat.page.keyboard.press("Escape")
    chat.type("Write a very long story about the sea.")
    expect(chat.answer.locator(".figures")).to_contain_text("tokens/s")
    chat.button("Stop").click()
    chat.settled()
    expect(chat.answer).to_contain_text("Stopped.")
    chat.page.keyboard.press("Control+,")
    chat.page.get_by_label("Longest answer").fill("8")
    chat.page.keyboard.press("Escape")
    chat.ask("Thanks.")
    expect(chat.answer).to_contain_text("reached the longest length")


def test_a_prompt_too_long(real_chat):
    chat = real_chat
    chat.ask("word " * 30_000)
    expect(chat.answer.get_by_role("alert")).to_have_text(re.compile(r"\d{4,} tokens.*\d{4,}"))


def test_on_a_phone(chromium, real_server):
    chat = Chat(chromium, real_server.url, viewport={"width": 360, "height": 640}, is_mobile=True, has_touch=True)
    chat.page.evaluate(
        """localStorage.setItem('baize.preferences', JSON.stringify({language: 'zh', defaults: {max_tokens: 8}}))"""
    )
    chat.page.reload()
    chat.find("#composer").fill("Hello")
    chat.button("发送").tap()
    expect(chat.answer.locator(".figures")).to_contain_text("首个 token")
    assert chat.page.evaluate("document.documentElement.scrollWidth") == 360
    chat.close()


def test_a_key(chromium, stocked):
    server = RealServer(stocked, "--api-key", "open-sesame")
    try:
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.get("v1/models")
        assert refused.value.code == 401
        chat = Chat(chromium, server.url)
        chat.find("dialog[open] input[type=password]").fill("open-sesame")
        chat.page.keyboard.press("Enter")
        chat.expect(".model").to_have_text(re.compile("smollm2"))
        chat.close()
    finally:
        server.close()
