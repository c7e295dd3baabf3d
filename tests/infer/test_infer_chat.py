"""The chat remembers, forgets, obeys its commands, and survives an interruption."""

import io

import pytest

from swiftlite.config.errors import UserError
from swiftlite.infer import chat as chat_module
from swiftlite.infer.chat import Chat, run_chat
from swiftlite.infer.sampling import Answer, Sampling


class Parrot:
    """An engine that says what it was asked last, a letter a piece, and writes down each conversation."""

    def __init__(self):
        self.asked = []

    def stream(self, messages, sampling):
        self.asked.append(messages)
        return Saying(messages[-1]["content"], sampling)


class Saying:
    def __init__(self, text, sampling):
        if "REFUSE" in text:
            raise UserError("too long; /clear forgets")
        self.pieces = iter(text)
        stopped = "length" if len(text) > sampling.max_new_tokens else "stop"
        self.answer = Answer(text, len(text), stopped)
        self.closed = False

    def __iter__(self):
        return self

    def __next__(self):
        piece = next(self.pieces)
        if piece == "^":
            raise KeyboardInterrupt
        return piece

    def close(self):
        self.closed = True


def talk(*lines, interactive=False, stream=True):
    """What was asked, what the model said and what the chat said, after typing `lines`."""
    engine, out, info = Parrot(), io.StringIO(), io.StringIO()
    chat = Chat(engine, Sampling(max_new_tokens=9), stream=stream, interactive=interactive, out=out, info=info)
    todo = iter(lines)
    chat.run(lambda: next(todo, None))
    return engine.asked, out.getvalue(), info.getvalue()


def test_each_question_sees_the_conversation_so_far():
    asked, out, _ = talk("one", "two")
    assert [m["content"] for m in asked[1]] == ["one", "one", "two"]
    assert [m["role"] for m in asked[1]] == ["user", "assistant", "user"]
    assert out == "one\ntwo\n"


def test_clear_forgets():
    asked, _, _ = talk("one", "/clear", "two")
    assert [m["content"] for m in asked[1]] == ["two"]


def test_system_sets_and_takes_back():
    asked, _, _ = talk("/system Be brief.", "one", "/system", "/clear", "two")
    assert asked[0][0] == {"role": "system", "content": "Be brief."}
    assert [m["role"] for m in asked[1]] == ["user"]


def test_exit_leaves_and_blank_lines_ask_nothing():
    asked, out, _ = talk("", "  ", "/exit", "one")
    assert asked == [] and out == ""


def test_help_and_unknown_commands_are_not_asked():
    asked, out, info = talk("/help", "/foo bar", " /foo")
    assert [c[-1]["content"] for c in asked] == ["/foo"]
    assert "/clear" in info and "no command /foo" in info and out == "/foo\n"


def test_an_interrupted_answer_is_kept_as_far_as_it_came():
    asked, out, info = talk("on^e", "^", "two", interactive=True)
    assert [m["content"] for m in asked[-1]] == ["on^e", "on", "two"]
    assert out.startswith("on\n") and info.count("interrupted") == 2


def test_an_interrupt_ends_a_chat_that_nobody_types():
    with pytest.raises(KeyboardInterrupt):
        talk("on^e")


def test_an_error_is_shown_and_the_chat_goes_on():
    asked, out, info = talk("REFUSE", "two", interactive=True)
    assert "too long" in info and out == "two\n"
    assert [m["content"] for m in asked[-1]] == ["two"]


def test_an_error_ends_a_chat_that_nobody_types():
    with pytest.raises(UserError, match="too long"):
        talk("REFUSE", "two")


def test_without_streaming_an_answer_comes_in_one_piece():
    assert talk("one", stream=False)[1] == "one\n"


def test_a_cut_answer_is_called_so():
    assert "(cut after 10 tokens)" in talk("0123456789")[2]


def test_interrupting_the_prompt_does_not_leave():
    lines = iter([KeyboardInterrupt(), "one"])

    def read():
        line = next(lines, None)
        if isinstance(line, BaseException):
            raise line
        return line

    engine, out = Parrot(), io.StringIO()
    Chat(engine, Sampling(), stream=True, interactive=True, out=out, info=io.StringIO()).run(read)
    assert out.getvalue() == "one\n"


def test_a_pipe_is_read_line_by_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("one\r\ntwo"))
    run_chat(Parrot(), Sampling(), stream=True)
    assert capsys.readouterr().out == "one\ntwo\n"


def test_a_terminal_is_left_by_ctrl_d(monkeypatch, capsys):
    typed = iter(["one"])

    def read(_: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(chat_module, "input", read, raising=False)
    assert chat_module._typed() == "one" and chat_module._typed() is None
