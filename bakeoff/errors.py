"""What a user can mend: raised anywhere, printed as one line by the command line, exit code 2."""

import difflib
from collections.abc import Collection


class UserError(Exception):
    """Says which file or setting, what was found (`!r`), and what to do; never a traceback for the user."""


class Missing(UserError):
    """An optional package is needed; says what to install."""


def hint(found: object, known: Collection[str]) -> str:
    """What to say of an unknown name: the nearest known one, or all of them."""
    near = difflib.get_close_matches(str(found), known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
