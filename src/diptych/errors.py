"""The one exception that reaches a person: what is wrong, where, and how to mend it, in one line."""

import difflib
import unicodedata
from collections.abc import Iterable

LONGEST = 1000  # characters of an error; more would hide the way out, which stands at the end


class DiptychError(Exception):
    """A problem that the person at the keyboard can mend; its text is one complete line."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


class NotFiniteError(DiptychError):
    """A term, a gradient or what a generator answers became NaN or infinite; no weight was changed by it."""


def one_line(text: str) -> str:
    r"""`text` for a terminal: whatever cannot be printed, such as a line break in a file's name, escaped (`\n`)."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 4 :]}"
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like `word` as a hint (`"; did you mean 'x'?"`), or an empty string where none is close.

    A name in a group that ends in `word` comes first: `optim.lr` for `lr`; then one that differs in its large letters
    alone, or in how Unicode writes it.
    """
    known = list(known)
    inner = [name for name in known if "." in name and name.rpartition(".")[2] == word.lstrip("-")]
    same = [name for name in known if _plain(name) == _plain(word)]
    close = inner or same or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not close:
        return ""
    looks_the_same = unicodedata.normalize("NFC", close[0]) == unicodedata.normalize("NFC", word)
    return f"; did you mean {ascii(close[0]) if looks_the_same else repr(close[0])}?"


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def some(names: Iterable[str], limit: int = 3) -> str:
    """At most `limit` names for a message, then how many more there are."""
    names = list(names)
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def first_line(problem: BaseException) -> str:
    """What another library said, in one line; its kind where it said nothing."""
    return (str(problem).splitlines() or [type(problem).__name__])[0]


def reason(problem: BaseException) -> str:
    """Why a file cannot be read, in one line, without its name."""
    return (isinstance(problem, OSError) and problem.strerror) or first_line(problem)
