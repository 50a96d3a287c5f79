class UserError(Exception):
    """Report an error that the user can mend.

    The message is one line that names the file, the value and the mend. The command line prints it to standard
    error and exits with status 2; library callers catch it like any other exception.
    """


class BadInputError(UserError):
    """Report that the images cannot be packed as asked for, so that what was written for them is to be removed."""
