"""The one exception that reaches a person: what is wrong, where, and how to mend it, in one line."""

import difflib
from collections.abc import Iterable


class DiptychError(Exception):
    """A problem that the person at the keyboard can mend; its text is one complete line."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like `word` as a hint (`"; did you mean 'x'?"`), or an empty string where none is close.

    A name in a group that ends in `word` comes first: `optim.lr` for `lr`.
    """
    known = list(known)
    inner = [name for name in known if "." in name and name.rpartition(".")[2] == word.lstrip("-")]
    close = inner or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def some(names: Iterable[str], limit: int = 3) -> str:
    """At most `limit` names for a message, then how many more there are."""
    names = list(names)
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def first_line(problem: BaseException) -> str:
    """What another library said, in one line; its kind where it said nothing."""
    return (str(problem).splitlines() or [type(problem).__name__])[0]
