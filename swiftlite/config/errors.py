"""The one exception for mistakes a user can mend; every room raises it, only the CLI prints it."""


class UserError(Exception):
    """Bad input: one sentence naming the flag, file or row, the value, what was expected and what to do.

    The command line prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 1


class UsageError(UserError):
    """A flag or a recipe key that cannot be read: exit code 2, as command-line tools do."""

    exit_code = 2
