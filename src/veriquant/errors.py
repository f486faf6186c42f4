"""The one exception that a user's mistake or a damaged file raises."""


class VeriQuantError(Exception):
    """Something the user can mend: a damaged file, a wrong setting, an impossible request.

    The message is one line that names the file or setting, says what was expected and what was found, and what to do.
    The command line prints it without a traceback and exits with code 2. Anything else that escapes is our own bug.
    """
