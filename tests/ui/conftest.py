"""A browser with the chat page: Debian's Chromium, before a scripted server (`chat`) or the real one (`real_chat`)."""

import os
import shutil
import subprocess
import sys

import pytest
from browser_chat import ROOT, Chat, RealServer
from mock_server import MockServer
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="session")
def page_file():
    """The page, built as the program's build does it."""
    subprocess.run([sys.executable, ROOT / "tools/build_ui.py"], check=True)
    return ROOT / "ui/dist/index.html"


@pytest.fixture(scope="session")
def chromium():
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert program, "tools/setup.sh test installs chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def server(page_file):
    mock = MockServer(page_file)
    yield mock
    mock.close()


@pytest.fixture
def open_chat(chromium, server):
    opened = []

    def start(**options):
        opened.append(Chat(chromium, server.url, **options))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture
def chat(open_chat):
    return open_chat()


@pytest.fixture(scope="session")
def build_ui():
    """tools/build_ui.py as a module."""
    sys.path.insert(0, str(ROOT / "tools"))
    import build_ui as module

    return module


@pytest.fixture(scope="session")
def real_server(stocked):
    server = RealServer(stocked)
    yield server
    server.close()


@pytest.fixture
def real_chat(chromium, real_server):
    """The program's own page. Answers are short, and the most likely ones."""
    chat = Chat(chromium, real_server.url)
    chat.context.add_init_script("""localStorage.getItem('baize.preferences') ?? localStorage.setItem('baize.preferences',
        JSON.stringify({defaults: {max_tokens: 24, temperature: 0}}))""")
    chat.page.evaluate("localStorage.removeItem('baize.preferences')")
    chat.page.reload()
    chat.expect("#composer").to_be_visible()
    yield chat
    chat.close()
