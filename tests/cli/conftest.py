"""Models and terminals for tests of the program."""

import os

import chat_model as tiny
import pytest
from hub_server import Hub
from store_machine import Machine
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


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path / "store")


@pytest.fixture
def hub(machine):
    hub = Hub()
    machine.env |= {"BAIZE_HF_ENDPOINT": hub.url, "BAIZE_MS_ENDPOINT": hub.url + "/"}
    yield hub
    hub.close()


@pytest.fixture
def other_hub():
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def wheels(machine, tmp_path):
    """A folder that pip takes packages from, and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    machine.env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull}
    return folder
