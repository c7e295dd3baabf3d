"""Tokenizers as fixtures for the chat tests."""

import pytest
from chat_helpers import load_shared, train_tokenizer


@pytest.fixture
def tiny():
    return train_tokenizer()


@pytest.fixture(scope="session")
def qwen():
    return load_shared("qwen2.5")
