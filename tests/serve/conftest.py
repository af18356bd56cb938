"""A running server for tests of the service."""

import os
import sys
from pathlib import Path

import pytest
from running_server import Server

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cli"))
import chat_model as tiny  # noqa: E402


@pytest.fixture(scope="session")
def make_model(goldens, tmp_path_factory):
    """Makes a tiny model that can chat; config keys and the chat template can be changed."""
    return lambda **changes: tiny.make_chat_model(tmp_path_factory.mktemp("model") / "tiny", goldens / "llama",
                                                  **changes)


@pytest.fixture(scope="session")
def model(make_model):
    return make_model(max_position_embeddings=65536)


@pytest.fixture(scope="session")
def serve_env(tmp_path_factory):
    """The environment of a server: an empty store, no settings of the caller's."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("BAIZE_")}
    return own | {"BAIZE_HOME": str(tmp_path_factory.mktemp("store"))}


@pytest.fixture
def start(program, serve_env, model):
    """Starts servers of the tiny model, or of those given by `models`, that end with the test."""
    running = []

    def run(*args, models=None, env=None):
        server = Server(program, serve_env | (env or {}), *(models or [model]), "--ctx", 16384, "--threads", 1, *args)
        running.append(server)
        return server

    yield run
    for server in running:
        server.close()


@pytest.fixture(scope="module")
def server(program, serve_env, model):
    """One server for a file of tests."""
    one = Server(program, serve_env, model, "--ctx", 16384, "--threads", 1, "--alias", "tiny-chat", "--write-timeout", 600)
    yield one
    one.close()


# Biases under which only printable characters are drawn.
ONLY_TEXT = {str(i): -100 for i in range(128) if i < len(tiny.SPECIAL) or i >= tiny.ESCAPE - 1}


@pytest.fixture
def only_text():
    return ONLY_TEXT
