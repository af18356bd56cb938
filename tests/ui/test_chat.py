"""What a user does with the chat page, before a scripted server."""

import itertools
import re

import pytest
from mock_server import Answer, Gate, words
from playwright.sync_api import expect


def bodies(server):
    return [body for path, body in server.requests if path == "/v1/chat/completions"]


def test_an_answer(chat, server):
    gate = Gate()
    server.script = lambda _: Answer(["Hello", gate, *words(" **there**, friend.")])
    chat.type("Hi")
    expect(chat.answer).to_contain_text("Hello")
    gate.set()
    chat.settled()
    chat.expect_texts("Hi", "Hello there, friend.")
    expect(chat.answer.locator("strong")).to_have_text("there")
    figures = chat.answer.locator(".figures").inner_text()
    assert re.search(
        r"tokens/s.*first token after [\d.]+ s.*5 tokens.*prompt 12 tokens \(4 from cache\)", figures, re.DOTALL
    )
    (body,) = bodies(server)
    assert body == {
        "model": "mock-model",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    chat.expect(".entry .title").to_have_text("Hi")
    assert chat.page.title() == "Hi · Baize"
    chat.ask("More")
    assert [m["content"] for m in bodies(server)[1]["messages"]] == ["Hi", "Hello **there**, friend.", "More"]


def test_thinking_is_folded(chat, server):
    gate = Gate()
    server.script = lambda _: Answer([{"reasoning_content": "Let me **see**."}, gate, "Forty-two."])
    chat.type("?")
    details = chat.answer.locator("details")
    expect(details.locator("summary")).to_have_text("Thinking…")
    expect(details).not_to_have_attribute("open", "")
    details.locator("summary").click()
    expect(details).to_have_attribute("open", "")
    gate.set()
    chat.settled()
    expect(details.locator("summary")).to_have_text(re.compile(r"Thought for [\d.]+ s"))
    expect(details).to_have_attribute("open", "")  # as the reader left it
    expect(details.locator("strong")).to_have_text("see")
    chat.ask("again")
    assert [m["content"] for m in bodies(server)[1]["messages"]] == ["?", "Forty-two.", "again"]


def test_stop(chat, server):
    endless = (piece for i in itertools.count() for piece in (f" {i}", 0.05))
    server.script = lambda _: Answer(itertools.chain(["Begun"], endless))
    chat.type("Count")
    expect(chat.answer).to_contain_text("Begun 0")
    expect(chat.answer.locator(".figures")).to_contain_text("tokens/s")
    chat.page.keyboard.press("Escape")
    chat.settled()
    expect(chat.answer).to_contain_text("Stopped.")
    expect(chat.answer).to_contain_text("Begun 0")
    assert server.cancelled.wait(120), "the request goes on"


def test_edit_regenerate_and_branches(chat, server):
    numbers = iter(range(1, 100))
    server.script = lambda body: Answer([f"{body['messages'][-1]['content']} {next(numbers)}"])
    chat.ask("a")
    chat.ask("b")
    chat.button("Answer again").last.click()
    chat.settled()
    chat.expect_texts("a", "a 1", "b", "b 3")
    expect(chat.answer.locator(".versions")).to_have_text("2 / 2")
    chat.answer.get_by_role("button", name="Previous version").click()
    chat.expect_texts("a", "a 1", "b", "b 2")
    chat.find("article.user").first.hover()
    chat.find("article.user").first.get_by_role("button", name="Edit").click()
    expect(chat.find(".editor textarea")).to_be_focused()
    chat.page.keyboard.type("x")
    chat.page.keyboard.press("Enter")
    chat.settled()
    chat.expect_texts("ax", "ax 4")
    assert bodies(server)[-1]["messages"] == [{"role": "user", "content": "ax"}]
    chat.find("article.user").first.get_by_role("button", name="Previous version").click()
    chat.expect_texts("a", "a 1", "b", "b 3")
    chat.reload()
    chat.expect("article").to_have_count(4)
    chat.expect_texts("a", "a 1", "b", "b 3")


def test_edit_the_last_message_by_keyboard(chat):
    chat.ask("first")
    chat.page.keyboard.press("ArrowUp")
    field = chat.find(".editor textarea")
    expect(field).to_be_focused()
    expect(field).to_have_value("first")
    chat.page.keyboard.press("Escape")
    chat.expect(".editor").to_have_count(0)
    chat.expect("#composer").to_be_focused()
    chat.expect_texts("first", "You said: first")


def test_conversations(chat):
    chat.ask("About apples")
    chat.page.keyboard.press("Control+Shift+O")
    chat.expect(".welcome").to_be_visible()
    chat.ask("About pears")
    chat.expect(".entry").to_have_count(2)
    chat.page.keyboard.press("Control+K")
    chat.expect("#search").to_be_focused()
    chat.page.keyboard.type("said: about APPLES")
    chat.expect(".entry").to_have_count(1)
    chat.find(".entry .title").click()
    expect(chat.find("article.user .bubble").first).to_have_text("About apples")
    chat.find("#search").fill("no such words")
    chat.expect(".entries").to_contain_text("No chat matches")
    chat.find("#search").fill("")
    chat.button("Options for “About apples”").click()
    chat.page.get_by_role("menuitem", name="Rename").click()
    field = chat.page.get_by_role("textbox", name="Rename")
    expect(field).to_be_focused()
    field.fill("Fruit")
    field.press("Enter")
    chat.expect(".entry .title >> text=Fruit").to_be_visible()
    chat.reload()
    chat.expect("h1").to_have_text("Fruit")
    chat.button("Options for “Fruit”").click()
    chat.page.get_by_role("menuitem", name="Delete").click()
    chat.expect(".entry").to_have_count(1)
    chat.expect(".welcome").to_be_visible()
    chat.button("Undo").click()
    chat.expect(".entry").to_have_count(2)


def test_answers_go_on_in_the_background(chat, server):
    gate = Gate()
    server.script = lambda _: Answer(["One", *[" more"] * 2, gate, *[" more"] * 3, " end."])
    chat.type("slow")
    expect(chat.answer).to_contain_text("One")
    chat.button("New chat").first.click()
    chat.expect(".welcome").to_be_visible()
    server.script = lambda _: Answer(["Quick."])
    chat.ask("fast")
    gate.set()
    chat.find(".entry .title >> text=slow").click()
    expect(chat.answer).to_contain_text("end.")
    chat.settled()
    chat.expect_texts("slow", "One more more more more more end.")


def test_export_and_import(chat, server, open_chat, tmp_path):
    server.script = lambda _: Answer([{"reasoning_content": "Hm."}, "# Yes"])
    chat.ask("Really?")
    chat.button("Options for “Really?”").click()
    with chat.page.expect_download() as waiting:
        chat.page.get_by_role("menuitem", name="Export as Markdown").click()
    assert waiting.value.suggested_filename == "Really.md"
    text = waiting.value.path().read_text()
    assert text.startswith("# Really?\n\n## You\n\nReally?\n\n## mock-model\n\n<details>") and text.endswith(
        "\n\n# Yes\n"
    )
    chat.button("Options for “Really?”").click()
    with chat.page.expect_download() as waiting:
        chat.page.get_by_role("menuitem", name="Export as JSON").click()
    file = tmp_path / "chat.json"
    waiting.value.save_as(file)

    other = open_chat()
    other.page.keyboard.press("Control+,")
    other.page.get_by_role("tab", name="General").click()
    other.find("input[type=file]").set_input_files({"name": "x.json", "mimeType": "application/json", "buffer": b"[]"})
    other.expect(".toast").to_contain_text("holds no chats")
    other.find("input[type=file]").set_input_files(file)
    other.expect(".toast").to_contain_text("1 chats imported")
    other.page.keyboard.press("Escape")
    other.find(".entry .title").click()
    other.expect("article").to_have_count(2)
    other.expect_texts("Really?", "Yes")


def test_settings(chat, server):
    chat.page.keyboard.press("Control+,")
    chat.page.get_by_label("System prompt").fill("Be brief.")
    chat.page.get_by_label("Temperature").fill("0.5")
    chat.page.get_by_label("Top K").fill("40")
    chat.page.get_by_label("Thinking").select_option("Off")
    chat.page.get_by_label("Top P").fill("7")
    expect(chat.page.get_by_role("alert")).to_have_text("between 0 and 1")
    chat.page.keyboard.press("Escape")
    chat.ask("x")
    body = bodies(server)[-1]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["temperature"] == 0.5 and body["top_k"] == 40 and "top_p" not in body
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    # Of this chat only: the defaults of new ones stay.
    chat.page.keyboard.press("Control+,")
    chat.page.get_by_label("Seed").fill("7")
    chat.page.keyboard.press("Escape")
    chat.ask("y")
    assert bodies(server)[-1]["seed"] == 7
    chat.button("New chat").first.click()
    chat.ask("z")
    assert "seed" not in bodies(server)[-1] and bodies(server)[-1]["temperature"] == 0.5


def test_language_and_theme(chat):
    chat.page.keyboard.press("Control+,")
    chat.page.get_by_role("tab", name="General").click()
    light = chat.page.evaluate("getComputedStyle(document.body).backgroundColor")
    chat.page.get_by_label("Appearance").select_option("dark")
    chat.page.wait_for_function("(light) => getComputedStyle(document.body).backgroundColor !== light", arg=light)
    chat.page.get_by_label("Appearance").select_option("light")
    chat.expect("body").to_have_css("background-color", light)
    chat.page.get_by_label("Language").select_option("zh")
    chat.expect(".new").to_have_text("新对话")
    chat.expect("html").to_have_attribute("lang", "zh-CN")
    chat.page.reload()
    chat.expect(".new").to_have_text("新对话")


def test_language_of_the_browser(open_chat):
    open_chat(locale="zh-CN").expect(".new").to_have_text("新对话")


def test_models(open_chat, server):
    server.models = ["small", "large"]
    chat = open_chat()
    chat.page.get_by_label("Model").select_option("large")
    chat.ask("x")
    assert bodies(server)[-1]["model"] == "large"
    chat.page.reload()
    expect(chat.page.get_by_label("Model")).to_have_value("large")


def test_copy(chat, server):
    server.script = lambda _: Answer(["```python\nprint('hi')\n```\n"])
    chat.context.grant_permissions(["clipboard-read", "clipboard-write"])
    chat.ask("code")
    # The word is there for a moment only: it is watched for from within the page.
    said = chat.page.evaluate_handle("""() => ({copied: new Promise((done) => new MutationObserver(() => {
        if (document.querySelector('figure button[aria-label="Copied"]')) done(true);
    }).observe(document.body, {subtree: true, childList: true, attributes: true}))})""")
    chat.answer.locator("figure").get_by_role("button", name="Copy").click()
    assert said.evaluate("(said) => said.copied")
    assert chat.page.evaluate("navigator.clipboard.readText()") == "print('hi')\n"
    expect(chat.answer.locator("figure .hljs-string")).to_have_text("'hi'")


def test_two_tabs(chat):
    other = chat.context.new_page()
    other.goto(chat.url)
    expect(other.locator("#composer")).to_be_visible()  # from now on it listens
    chat.ask("from the first tab")
    expect(other.locator(".entry .title")).to_have_text("from the first tab")


def test_an_input_method_composes(chat, server):
    """Enter that ends a composition (Chinese, Japanese) does not send."""
    chat.find("#composer").fill("ni")
    chat.page.evaluate("""document.getElementById('composer').dispatchEvent(
        new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229, isComposing: true, bubbles: true, cancelable: true}))""")
    chat.expect("#composer").to_have_value("ni")
    assert not bodies(server)
    chat.page.keyboard.press("Shift+Enter")
    chat.expect("#composer").to_have_value("ni\n")


@pytest.mark.parametrize("finish, sentence", [("length", "reached the longest length")])
def test_endings(chat, server, finish, sentence):
    server.script = lambda _: Answer(["Cut"], finish=finish)
    chat.ask("x")
    expect(chat.answer).to_contain_text(sentence)
