"""What a user can mend: raised anywhere, printed as one line by the command line, exit code 2."""


class UserError(Exception):
    """Says which file or setting, what was found (`!r`), and what to do; never a traceback for the user."""


class Missing(UserError):
    """An optional package is needed; says what to install."""
