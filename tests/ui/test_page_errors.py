"""What the chat page says and does when things go wrong."""

import itertools

from mock_server import Answer
from playwright.sync_api import expect


def test_a_bad_request_is_told_in_the_servers_words(chat, server):
    server.script = lambda _: Answer(status=400, error="the prompt has 9000 tokens, but the context holds 8192")
    chat.ask("long")
    expect(chat.answer.get_by_role("alert")).to_contain_text("the prompt has 9000 tokens, but the context holds 8192")
    server.script = lambda _: Answer(["Fine."])
    chat.button("Try again").click()
    chat.settled()
    chat.expect("article").to_have_count(2)
    chat.expect_texts("long", "Fine.")


def test_busy(chat, server):
    server.script = lambda _: Answer(status=429, error="busy", headers={"retry-after": "7"})
    chat.ask("x")
    expect(chat.answer.get_by_role("alert")).to_contain_text("The server is busy. Try again in 7.0 s.")


def test_an_error_within_the_stream(chat, server):
    server.script = lambda _: Answer(["Half an"], error="the engine failed")
    chat.ask("x")
    expect(chat.answer).to_contain_text("Half an")
    expect(chat.answer.get_by_role("alert")).to_contain_text("the engine failed")


def test_a_connection_that_breaks(chat, server):
    server.script = lambda _: Answer(["Half an"], broken=True)
    chat.ask("x")
    expect(chat.answer).to_contain_text("Half an")
    expect(chat.answer.get_by_role("alert")).to_contain_text("The connection was lost before the answer ended.")


def test_the_server_is_gone_and_comes_back(chat, server):
    server.down = True
    chat.ask("x")
    expect(chat.answer.get_by_role("alert")).to_contain_text("The server does not answer.")
    chat.page.reload()
    chat.expect(".banner").to_contain_text("The server does not answer.")
    server.down = False
    chat.expect(".banner").to_have_count(0)
    chat.expect(".model").to_have_text("mock-model")


def test_the_key_is_asked_for(open_chat, server):
    server.key = "right"
    chat = open_chat()
    field = chat.find("dialog[open] input[type=password]")
    expect(field).to_be_focused()
    field.fill("wrong")
    chat.page.keyboard.press("Enter")
    chat.expect("dialog[open] [role=alert]").to_have_text("The server does not accept this key.")
    field.fill("right")
    chat.page.keyboard.press("Enter")
    chat.expect(".model").to_have_text("mock-model")
    chat.ask("x")
    chat.reload()
    chat.expect(".model").to_have_text("mock-model")
    # The key changes while the page is open: it is asked for again, and the question is not lost.
    server.key = "other"
    chat.type("y")
    field.fill("other")
    chat.page.keyboard.press("Enter")
    chat.settled()
    chat.expect_texts("x", "You said: x", "y", "You said: y")


def test_an_answer_cut_off_by_a_reload_is_kept(chat, server):
    server.script = lambda _: Answer(itertools.chain(["Kept"], itertools.cycle([" more", 0.1])))
    chat.type("x")
    expect(chat.answer).to_contain_text("Kept more")
    chat.stored("Kept more")
    chat.page.reload()
    expect(chat.answer).to_contain_text("Kept more")
    expect(chat.answer).to_contain_text("The answer was interrupted.")


def test_without_storage(open_chat):
    chat = open_chat()
    chat.context.add_init_script("Object.defineProperty(window, 'indexedDB', {get() { throw new Error('no'); }})")
    chat.page.reload()
    chat.expect(".banner").to_contain_text("does not let the page keep chats")
    chat.ask("x")
    chat.expect_texts("x", "You said: x")
