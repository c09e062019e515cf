"""The errors of LungForge: a user's mistake, or one of two families about what was read.

*Content* errors say what the bytes prove: a bad volume, table, map or checkpoint. The same bytes will be
bad tomorrow, so they are named, and the rest of the work is done.

*Access* errors say that the bytes could not be had: denied, expired, gone since they were listed, cut
short, timed out, no space. They prove nothing about the content: they are retried with patience, and then
the job ends with nothing committed. Only content can reject an item. Some of them do not go away by
themselves (wrong keys, a missing bucket, ...): `AccessRefusedError`.
"""


class InputError(ValueError):
    """Something that a user gave is wrong. The message is one line that says what, and what would do.

    The command line prints the message without a traceback and exits with 2.
    """


class ContentError(InputError):
    """What was read is wrong: the bytes prove it."""


class AccessError(OSError):
    """Something could not be read or written now; it may be sound. One line that names the URI.

    The command line prints the message without a traceback and exits with 1.
    """


class AccessRefusedError(AccessError):
    """An access error that lasts until someone mends settings: keys, policy, endpoint, bucket, permissions.

    The command line exits with 2.
    """
