"""The line grammar: what a person types, and which characters may reach a program or a terminal.

    line     = blank | "exit" | command | NAME ":" text | "#" thread ":" text
    command  = "!check" | "!who" | "!threads" | "!register" | "!help" | "!history" (NAME | "#" thread) | "!join" thread
             | "!stop" NAME

The part before the first colon is the address, so `12:30 see you` goes to somebody called 12. `http://…` is
the one exception: nobody begins a message with two slashes. A thread is given by its title, spaces and all,
or by its id. Everything here is a pure function; doors that read bytes find whole lines themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hubbub.core import names
from hubbub.core.errors import BadRequest

INVALID: Final = "Invalid format. Use: NAME: MESSAGE"

PASSWORD: Final = "Password for {name}"
NEW_PASSWORD: Final = "New password for {name}"
SAME_AGAIN: Final = "The same again"
"""What is asked for before a secret."""

SILENT: Final = "{name} is not writing anything to you."

UNCHANGED: Final = "Nothing was changed."
DIFFERENT: Final = "Those were two different passwords. Nothing was changed; try !register again."

WRONG_PASSWORDS: Final = 3
"""After so many in a row nobody is asked again."""

HELP: Final = """\
NAME: MESSAGE      write to someone; they find it when they come back if they are away
#THREAD: MESSAGE   write to everyone in a thread, such as #lobby
!check             show what you have not seen yet
!who               who is online
!history NAME      the last messages with someone; !history #THREAD for a thread
!threads           the threads you can write to
!join THREAD       enter a public thread
!stop NAME         stop what an assistant is writing to you
!register          make your name your own, with a password
!help              this text
exit               leave"""


@dataclass(frozen=True, slots=True)
class Say:
    """Write to one member. `to` is a legal name, normalised."""

    to: str
    text: str


@dataclass(frozen=True, slots=True)
class SayIn:
    """Write in a thread. `thread` is a title or an id, without the `#`."""

    thread: str
    text: str


@dataclass(frozen=True, slots=True)
class CheckNow:
    pass


@dataclass(frozen=True, slots=True)
class AskWho:
    pass


@dataclass(frozen=True, slots=True)
class ListThreads:
    pass


@dataclass(frozen=True, slots=True)
class JoinThread:
    """Enter a public thread. `thread` is a title or an id, without the `#`."""

    thread: str


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """Read back. `of` is a name, or `#` and a thread's title or id."""

    of: str


@dataclass(frozen=True, slots=True)
class StopWriting:
    """Stop what an assistant is writing where one hears it."""

    name: str


@dataclass(frozen=True, slots=True)
class MakeMine:
    """Make one's name one's own with a password, which is asked for: it is never part of a line."""


@dataclass(frozen=True, slots=True)
class AskHelp:
    pass


@dataclass(frozen=True, slots=True)
class Leave:
    pass


@dataclass(frozen=True, slots=True)
class Nothing:
    """A blank line."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """Not a line of this grammar; `detail` is the sentence to answer."""

    detail: str


Line = (
    Say
    | SayIn
    | CheckNow
    | AskWho
    | ListThreads
    | JoinThread
    | ReadHistory
    | StopWriting
    | MakeMine
    | AskHelp
    | Leave
    | Nothing
    | Unclear
)

_ALONE: dict[str, type[CheckNow] | type[AskWho] | type[ListThreads] | type[MakeMine] | type[AskHelp]] = {
    "!check": CheckNow,
    "!who": AskWho,
    "!threads": ListThreads,
    "!register": MakeMine,
    "!help": AskHelp,
}


def parse(line: str) -> Line:
    """What the line asks for. Never raises; whatever it cannot read is Unclear."""
    line = line.strip()
    if not line:
        return Nothing()
    if line.casefold() == "exit":
        return Leave()
    if line.startswith("!"):
        return _command(line)
    address, colon, text = line.partition(":")
    text = text.strip()
    if not colon or not text or text.startswith("//"):
        return Unclear(INVALID)
    if address.startswith("#"):
        thread = address[1:].strip()
        return SayIn(thread, text) if thread else Unclear(INVALID)
    try:
        return Say(names.normalise(address), text)
    except BadRequest:
        return Unclear(INVALID)


def _command(line: str) -> Line:
    word, *rest = line.split(maxsplit=1)
    what = rest[0] if rest else ""
    command = word.casefold()
    if command in _ALONE:
        return Unclear(f"{command} stands alone on its line. Try !help.") if what else _ALONE[command]()
    if command == "!history":
        if not what.removeprefix("#").strip():
            return Unclear("Use: !history NAME or !history #THREAD")
        return ReadHistory(what)
    if command == "!join":
        thread = what.removeprefix("#").strip()
        return JoinThread(thread) if thread else Unclear("Use: !join THREAD")
    if command == "!stop":
        return StopWriting(what) if what else Unclear("Use: !stop NAME")
    return Unclear(f"There is no command {word}. Try !help.")


# Telnet negotiation (RFC 854, RFC 855): IAC SB … IAC SE, IAC WILL/WONT/DO/DONT option, IAC and one byte. What
# the end of the line has cut off goes too. IAC IAC stands for the byte 255, which is no UTF-8: U+FFFD.
_TELNET = re.compile(
    rb"\xff\xff|\xff\xfa(?:[^\xff]|\xff[^\xf0])*(?:\xff\xf0|\xff?\Z)|\xff[\xfb-\xfe].?|\xff[^\xfa-\xff]?",
    re.DOTALL,
)

_C0 = [c for c in range(0x20) if c not in (0x09, 0x0A)]
_C1 = range(0x7F, 0xA0)  # with DEL
_BIDI = [
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
]  # overrides and isolates can make a line read as another
_TYPED = dict.fromkeys([*_C0, 0x0A, *_C1])
_SHOWN: dict[int, str | None] = {
    **dict.fromkeys([*_C0, *_C1, *_BIDI]),
    # An indented line cannot pass for a message of its own. U+2028 and U+2029 break lines in some terminals.
    **dict.fromkeys([0x0A, 0x2028, 0x2029], "\n  "),
}


def clean_input(raw: bytes) -> str:
    """One line from a socket as the text that was typed, without its line end.

    Telnet negotiation and control characters are removed, a backspace takes the character before it along
    (telnet sends them as typed), and what is not UTF-8 becomes U+FFFD. Tabs stay.
    """
    if b"\xff" in raw:
        raw = _TELNET.sub(lambda found: b"\xff" if found[0] == b"\xff\xff" else b"", raw)
    text = raw.decode("utf-8", "replace")
    if "\b" in text or "\x7f" in text:
        text = _erase(text)
    return text.translate(_TYPED)


def _erase(text: str) -> str:
    kept: list[str] = []
    for char in text:
        if char in "\b\x7f":
            if kept:
                kept.pop()
        else:
            kept.append(char)
    return "".join(kept)


def clean_output(text: str) -> str:
    """What may be written to a person's terminal: no control characters, no ESC, no bidi overrides.

    A newline becomes a newline and two spaces; tabs stay. Cleaning a text piece by piece gives the same as
    cleaning the whole.
    """
    return text if text.isascii() and text.isprintable() else text.translate(_SHOWN)
