"""The commands that a shell script runs, found without running it.

A lexer for the shell of this project's scripts and recipes, not for all of sh: no here-documents,
no backquotes.  Plain arguments are reported too, because `env`, `exec`, `nsenter` and others run
their arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# fmt: off
# What the shell itself runs.
BUILTINS = {
    ":", ".", "[", "[[", "alias", "break", "cd", "command", "continue", "disown", "echo",
    "eval", "exec", "exit", "export", "false", "getopts", "hash", "kill", "local", "printf",
    "pwd", "read", "readonly", "return", "set", "shift", "source", "test", "times", "time",
    "trap", "true", "type", "ulimit", "umask", "unset", "wait",
}
# fmt: on
_OPENING = {"if", "then", "else", "elif", "do", "while", "until", "!", "{", "(", "time"}
_CLOSING = {"fi", "done", "esac", "}", ")"}
_SEPARATORS = {"\n", ";", "&", "|", "&&", "||", ";;"}
_TOKEN = re.compile(
    r"\\\n|[ \t]+|#[^\n]*|;;|&&|\|\|"
    r"|[0-9]*(?:<<<|>>|>&|<&|&>|[<>])&?-?"
    r"|[\n;&|(){}!](?![^\s;&|()<>])|[\n;&|()]"
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(?:\[[^]]*\])?\+?=")


@dataclass
class Word:
    """A word of the script, without quotes.  `bare`: no part of it is quoted or expanded."""

    text: str
    bare: bool
    operator: bool = False


@dataclass
class FolderListing:
    """`commands`: words in the place of one.  `arguments`: bare ones.  `functions`: its own."""

    commands: set[str] = field(default_factory=set)
    arguments: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)


def commands(script: str) -> FolderListing:
    """What `script` runs, in substitutions and in the arguments of `sh -c` and `trap` too."""
    found = FolderListing()
    _script(script, found)
    found.commands -= found.functions | BUILTINS
    found.arguments -= found.functions | BUILTINS
    return found


def _closing(text: str, at: int) -> int:
    """Where the parenthesis that opened before `at` closes; quotes in it are passed over."""
    depth = 1
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == "'":
            at = text.index("'", at + 1)
        elif char == '"':
            at = _double(text, at, None)[0] - 1
        elif char in "()":
            depth += 1 if char == "(" else -1
            if not depth:
                return at
        at += 1
    raise ValueError(f"not closed: {text[:60]!r}")


def _double(text: str, at: int, found: FolderListing | None) -> tuple[int, str]:
    """The end of a double-quoted string that begins at `at`, and its text.

    What its substitutions run goes to `found`.
    """
    begin = at = at + 1
    while text[at] != '"':
        if text[at] == "\\":
            at += 1
        elif text.startswith("$(", at):
            end = _closing(text, at + 2)
            if found is not None and not text.startswith("$((", at):
                _script(text[at + 2 : end], found)
            at = end
        at += 1
    return at + 1, text[begin:at]


def _words(text: str, found: FolderListing) -> Iterator[Word]:
    """Words and operators, in order."""
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token:
            at = token.end()
            if not token[0].startswith(("#", " ", "\t", "\\")):
                yield Word(token[0], bare=False, operator=True)
            continue
        word, bare = "", True
        while at < len(text) and not re.match(r"[\s;&|()<>]", text[at]):
            char = text[at]
            if char == "'":
                end = text.index("'", at + 1)
                word, bare, at = word + text[at + 1 : end], False, end + 1
            elif char == '"':
                at, inner = _double(text, at, found)
                word, bare = word + inner, False
            elif text.startswith(("$(", "<(", ">("), at):
                end = _closing(text, at + 2)
                if not text.startswith("$((", at):
                    _script(text[at + 2 : end], found)
                word, bare, at = word + "$", False, end + 1
            elif text.startswith("${", at):
                end = text.index("}", at)
                word, bare, at = word + "$", False, end + 1
            elif char == "\\":
                word, at = word + text[at + 1 : at + 2], at + 2
            else:
                bare = bare and char not in "$*?[]"
                word, at = word + char, at + 1
            if at < len(text) and text[at] == "(" and word.endswith("=") and bare:  # an array
                at = _closing(text, at + 1) + 1
        yield Word(word, bare)


def _script(text: str, found: FolderListing) -> None:
    _Reader(list(_words(text, found)), found).read()


class _Reader:
    """Goes through the words of a script.

    `expected`: the next word is a command.  `command`: the last one.
    """

    def __init__(self, words: list[Word], found: FolderListing) -> None:
        self.words, self.found = words, found
        self.at, self.expected, self.command = 0, True, ""

    def read(self) -> None:
        while self.at < len(self.words):
            word = self.words[self.at]
            self.at += 1
            if word.operator:
                self.operator(word.text)
            elif self.expected:
                self.first(word)
            else:
                self.argument(word)

    def operator(self, text: str) -> None:
        """A redirection, a separator, or a parenthesis."""
        if re.search(r"[<>]", text):
            self.at += not text.endswith("-")  # what is redirected to
        elif text == "!" and not self.expected:
            return  # of [ or [[
        elif text in _SEPARATORS or text in _OPENING:
            self.expected = True
            rest = (word.text for word in self.words[self.at :] if word.text != "\n")
            if text == ";;" and next(rest) != "esac":
                self.pass_over(")")
        else:
            self.expected = False

    def argument(self, word: Word) -> None:
        """An argument of `command`: a name, or the script of `sh -c`."""
        if word.bare and self.command not in ("[", "[[", "test"):
            self.found.arguments.add(word.text)
        elif re.fullmatch(r"-\w*c", self.words[self.at - 2].text) and re.search(r"\s", word.text):
            _script(word.text, self.found)

    def first(self, word: Word) -> None:
        """A word where a command is expected: keyword, assignment, function, or command."""
        after = self.words[self.at : self.at + 2]
        if word.text == "for":
            self.pass_over(";", "\n")
        elif word.text == "case":
            self.pass_over("in")
            self.pass_over(")")
        elif word.text in _CLOSING:
            self.expected = False
        elif word.text in _OPENING or _ASSIGNMENT.match(word.text):
            return
        elif [one.text for one in after] == ["(", ")"]:
            self.found.functions.add(word.text)
            self.at += 2
        else:
            self.run(word.text, after)

    def run(self, command: str, after: list[Word]) -> None:
        """A command, and the words after it."""
        self.command, self.expected = command, False
        if command == "command" and after and after[0].text == "-v":
            self.at += 2  # asks whether there is one
        elif command == "trap" and after and not after[0].bare:
            _script(after[0].text, self.found)
        if command and "$" not in command:
            self.found.commands.add(command)

    def pass_over(self, *texts: str) -> None:
        """Go on behind the next word that is one of `texts`."""
        while self.words[self.at].text not in texts:
            self.at += 1
        self.at += 1
