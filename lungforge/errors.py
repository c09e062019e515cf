"""The errors that are a user's to mend."""


class InputError(ValueError):
    """Something that a user gave is wrong. The message is one line that says what, and what would do.

    The command line prints the message without a traceback and exits with 2. Everything else that is
    raised is a fault of ours or of the machine, and exits with 1.
    """
