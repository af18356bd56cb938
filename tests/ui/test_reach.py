"""The page on a phone, by keyboard and for a screen reader."""

from mock_server import Answer, Gate, words
from playwright.sync_api import expect

WIDE = (
    "| a | b | c | d | e | f |\n|-|-|-|-|-|-|\n"
    + "| wide cell | wide cell | wide cell | wide cell | wide cell | wide cell |\n" * 2
)
LONG = f"{'x' * 400}\n\n{WIDE}\n\n```\n{'code ' * 60}\n```\n\n$$\n{'a+' * 100}b\n$$\n"


def test_on_a_phone(open_chat, server):
    server.script = lambda _: Answer([LONG])
    chat = open_chat(viewport={"width": 360, "height": 640}, is_mobile=True, has_touch=True)
    assert chat.page.evaluate("document.documentElement.scrollWidth") == 360
    chat.ask("hello " * 100)
    assert chat.page.evaluate("document.documentElement.scrollWidth") == 360
    assert chat.page.evaluate("document.querySelector('.thread').scrollWidth") <= 360
    # What can be touched is large enough, and in the window.
    small = chat.page.evaluate("""() => [...document.querySelectorAll('main button')].filter((b) => b.offsetParent)
        .filter((b) => b.getBoundingClientRect().width < 32 || b.getBoundingClientRect().height < 32).map((b) => b.outerHTML)""")
    assert small == []
    chat.button("Show chats").tap()
    chat.expect(".entry").to_be_visible()
    chat.button("New chat").first.tap()
    chat.expect(".welcome").to_be_visible()
    expect(chat.find("#sidebar")).to_be_hidden()
    chat.button("Settings").first.tap()
    chat.expect("dialog[open]").to_be_visible()
    assert chat.page.evaluate("document.querySelector('dialog[open]').scrollWidth") <= 360


def test_by_keyboard_alone(open_chat):
    chat = open_chat(reduced_motion="reduce")  # colours change at once
    chat.expect("#composer").to_be_focused()
    chat.page.keyboard.type("hello")
    chat.page.keyboard.press("Enter")
    chat.expect_texts("hello", "You said: hello")
    chat.settled()
    chat.expect("#composer").to_be_focused()
    # Every stop of the focus can be seen, and Tab comes round.
    chat.find(".skip").focus()
    seen = []
    for _ in range(40):
        name, outline = chat.page.evaluate("""() => {
            const e = document.activeElement;
            const style = getComputedStyle(e.closest('.composer .box') ?? e);
            return [e === document.body ? '' : e.getAttribute('aria-label') || e.textContent,
                    style.outlineStyle !== 'none' || style.borderColor !== getComputedStyle(document.querySelector('.foot')).borderColor]}""")
        if not name:
            break
        assert outline, f"{name} does not show its focus"
        seen.append(name)
        chat.page.keyboard.press("Tab")
    assert {"New chat", "Search chats", "hello", "Settings", "Edit", "Answer again", "Message"} <= set(seen), seen
    assert (
        seen.index("New chat")
        < seen.index("Search chats")
        < seen.index("Edit")
        < seen.index("Answer again")
        < seen.index("Message")
    )
    chat.page.keyboard.press("Escape")
    chat.page.evaluate("document.activeElement.blur()")
    chat.page.keyboard.press("?")
    expect(chat.page.get_by_role("dialog")).to_contain_text("Keyboard shortcuts")
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("dialog")).to_have_count(0)
    chat.page.keyboard.press("/")
    chat.expect("#composer").to_be_focused()


def test_a_menu_by_keyboard(chat):
    chat.ask("hello")
    chat.button("Options for “hello”").focus()
    chat.page.keyboard.press("Enter")
    expect(chat.page.get_by_role("menuitem", name="Rename")).to_be_focused()
    chat.page.keyboard.press("ArrowUp")
    expect(chat.page.get_by_role("menuitem", name="Delete")).to_be_focused()
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("menu")).to_have_count(0)
    expect(chat.button("Options for “hello”")).to_be_focused()


def test_for_a_screen_reader(chat, server):
    begin, go_on = Gate(), Gate()
    server.script = lambda _: Answer(
        [begin, *words("The first sentence is here. The second"), go_on, *words(" one, too.")]
    )
    chat.type("hello")
    status = chat.find(
        "[role=status]",
    ).filter(has_text="Answering…")
    expect(status).to_have_count(1)
    begin.set()
    expect(chat.find("[role=status]").filter(has_text="The first sentence is here.")).to_have_count(1)
    go_on.set()
    chat.settled()
    expect(chat.find("[role=status]").filter(has_text="Answer complete.")).to_have_count(1)
    unnamed = chat.page.evaluate("""() => [...document.querySelectorAll('button, input, textarea, select, a, dialog[open], nav')]
        .filter((e) => !e.hidden && !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)""")
    assert unnamed == []
    assert chat.page.get_by_role("main").count() == 1 and chat.page.get_by_role("navigation", name="Chats").count() == 1
    expect(chat.page.get_by_role("article", name="You")).to_have_text("hello")


def test_contrast(open_chat, server):
    """WCAG AA, 4.5:1, of every text on show, light and dark."""
    server.script = lambda _: Answer(
        [
            "Text `code` [link](https://x.example/)\n\n> quote\n\n```python\n# comment\ndef f(x: int):\n    return 'a' + 1\n```"
        ]
    )
    for scheme in ("light", "dark"):
        chat = open_chat(color_scheme=scheme)
        chat.ask("hello")
        faint = chat.page.evaluate(CONTRAST)
        assert faint == [], scheme


def test_following_the_end(chat, server):
    gate = Gate()
    lines = [f"Line {i}\n\n" for i in range(60)]
    server.script = lambda _: Answer([*lines, *["word "] * 20, gate, *[0.02, "more "] * 50, "last"])
    chat.type("x")
    expect(chat.answer).to_contain_text("word word")
    # Functions: an expression would be evaluated in the page again and again, which its security policy forbids.
    at_end = "() => { const t = document.querySelector('.thread'); return t.scrollHeight - t.clientHeight - t.scrollTop < 5; }"
    chat.page.wait_for_function(at_end)
    chat.find(".thread").hover()
    chat.page.mouse.wheel(0, -600)
    chat.page.wait_for_function(f"() => !({at_end})()")
    gate.set()
    expect(chat.answer).to_contain_text("last")
    chat.settled()
    assert not chat.page.evaluate(at_end), "the reader was pulled away"
    chat.button("To the latest message").click()
    chat.page.wait_for_function(at_end)


CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
                            return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const over = (top, under) => [0, 1, 2].map((i) => (top[i] * top[3] + under[i] * (255 - top[3])) / 255).concat(255);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { if (!e) return [255, 255, 255, 255]; const own = rgba(getComputedStyle(e).backgroundColor);
                          return own[3] === 255 ? own : over(own, ground(e.parentElement)); };
  const faint = [];
  for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walk.nextNode();) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility({opacityProperty: true, visibilityProperty: true}) || e.closest('.unseen, .skip, :disabled')) continue;
    const under = ground(e), a = light(over(rgba(getComputedStyle(e).color), under)), b = light(under);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${walk.currentNode.data.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""
