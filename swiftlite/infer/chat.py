"""`swiftlite infer` without a file: a conversation in the terminal, or line by line through a pipe."""

import contextlib
import sys
from collections.abc import Callable
from typing import TextIO

from swiftlite.config.errors import UserError
from swiftlite.infer.engine import Engine, Message
from swiftlite.infer.sampling import Sampling

# Its import gives input() line editing and a history, on platforms that have it.
with contextlib.suppress(ImportError):
    import readline  # noqa: F401

HELP = """\
/clear          forget the conversation
/system [TEXT]  give the model a system prompt from here on; without TEXT: its own again
/adapter [NAME] have another of several adapters answer (base: none of them); without NAME: say which there are
/help           show this
/exit           leave (so does Ctrl-D)
Ctrl-C ends an answer. A line that begins with a space is never a command."""


class Chat:
    """One conversation; answers go to `out`, everything else to `info`.

    Args:
        stream: write answers while they are made.
        interactive: a person is there: errors are shown and the chat goes on, Ctrl-C ends an answer only.
    """

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        *,
        stream: bool,
        interactive: bool,
        out: TextIO,
        info: TextIO,
    ):
        self.history: list[Message] = []
        self.system: str | None = None
        self._engine = engine
        self._sampling = sampling
        self._stream = stream
        self._interactive = interactive
        self._out = out
        self._info = info

    def run(self, read: Callable[[], str | None]) -> None:
        """Answers what `read` gives until it gives None, or the user leaves.

        Raises:
            UserError: a question that cannot be answered, where nobody is there to ask another way.
        """
        while True:
            try:
                line = read()
                if line is None or not self._take(line):
                    return
            except UserError as error:
                if not self._interactive:
                    raise
                self._say(str(error))
            except KeyboardInterrupt:
                if not self._interactive:
                    raise
                self._say("\n(/exit or Ctrl-D leaves)")

    def ask(self, text: str) -> None:
        """One question and its answer, which become part of the conversation."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        question = {"role": "user", "content": text}
        said = self._answer([*system, *self.history, question])
        if said is not None:
            self.history += [question, {"role": "assistant", "content": said}]

    def _take(self, line: str) -> bool:
        """Handles one line; False: leave."""
        if not line.startswith("/"):
            if line.strip():
                self.ask(line.strip())
            return True
        command, _, rest = line.strip().partition(" ")
        if command in ("/exit", "/quit"):
            return False
        if command == "/clear":
            self.history.clear()
            self._say("(forgotten)")
        elif command == "/system":
            self.system = rest.strip() or None
            self._say("(system prompt set)" if self.system else "(no system prompt of yours any more)")
        elif command == "/adapter":
            self._say(self._engine.choose_adapter(rest.strip()))
        elif command == "/help":
            self._say(HELP)
        else:
            self._say(f"no command {command}; /help lists them, and a space before it sends the line as it is")
        return True

    def _answer(self, messages: list[Message]) -> str | None:
        """The text said; None when it was interrupted before its first word."""
        said = ""
        stream = self._engine.stream(messages, self._sampling)
        try:
            for piece in stream:
                said += piece
                if self._stream:
                    self._write(piece)
        except KeyboardInterrupt:
            if not self._interactive:
                raise
            self._write("\n" if self._stream else said + "\n")
            self._say("(interrupted)" if said else "(interrupted; the question is forgotten)")
            return said or None
        finally:
            stream.close()
        self._write("\n" if self._stream else said + "\n")
        if stream.answer is not None and stream.answer.stopped == "length":
            self._say(f"(cut after {stream.answer.tokens} tokens)")
        return said

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def _say(self, text: str) -> None:
        print(text, file=self._info, flush=True)


def run_chat(engine: Engine, sampling: Sampling, *, stream: bool) -> None:
    """Chats on the standard streams until the user leaves."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    chat = Chat(engine, sampling, stream=stream, interactive=interactive, out=sys.stdout, info=sys.stderr)
    if interactive:
        print("/help lists the commands; Ctrl-D leaves", file=sys.stderr)
    chat.run(_typed if interactive else _piped)


def _typed() -> str | None:
    try:
        return input("> ")
    except EOFError:
        print()
        return None


def _piped() -> str | None:
    line = sys.stdin.readline()
    return line.rstrip("\r\n") if line else None
