"""Texts of others, such as names of classes, so that they are read as they stand wherever shown."""

import re


def printable(text: object) -> str:
    r"""Return a text on one line, with control characters and lone surrogates as escapes.

    Examples
    --------
    >>> printable("a\n cat\x1b\udc80")
    'a cat\\x1b\\udc80'
    """
    line = " ".join(str(text).split())
    return re.sub(
        r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", lambda c: c[0].encode("unicode_escape").decode(), line
    )


def for_markdown(text: object) -> str:
    r"""Return a text for Markdown, in a table's cell too.

    Examples
    --------
    >>> for_markdown("C_y~,y*|")
    'C\\_y\\~,y\\*\\|'
    """
    return re.sub(r"([\\`*_|~$&<>\[\]])", r"\\\1", printable(text))
