import pytest

from text_tool import TextTool


@pytest.fixture(scope="module")
def tool():
    tool = TextTool()
    yield tool
    tool.close()
