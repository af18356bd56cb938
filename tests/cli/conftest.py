"""Models and terminals for tests of the program."""

import chat_model as tiny
import pytest
from terminal import Terminal


@pytest.fixture(scope="session")
def make_chat_model(goldens, tmp_path_factory):
    """Makes a model folder; config keys and the chat template can be changed."""
    return lambda **changes: tiny.make_chat_model(tmp_path_factory.mktemp("chat_model"), goldens / "llama", **changes)


@pytest.fixture(scope="session")
def chat_model(make_chat_model):
    return make_chat_model(max_position_embeddings=65536)


@pytest.fixture
def terminal(baize, tmp_path):
    """Starts `baize ARGS` in a terminal with a store of its own."""
    opened = []

    def start(*args):
        opened.append(Terminal([baize.program, *args], baize.env | {"BAIZE_HOME": str(tmp_path / "home")}))
        return opened[-1]

    yield start
    for each in opened:
        each.close()
