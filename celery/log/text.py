"""Text log lines: a record is one line, whatever is in its message. Names and errors of tasks are anybody's words."""

import logging


def printable(text: str) -> str:
    r"""Return `text` with an escape for whatever could end the line, hide in it, or steer a terminal.

    >>> print(printable("first\nsecond \x1b[31m"))
    first\nsecond \x1b[31m
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def escape_arguments(record: logging.LogRecord) -> bool:
    """Make what is put into the sentence of `record` printable: a filter for loggers, which lets everything pass.

    So the line is safe in a handler of the project, too, whose formatter is not ours.
    """
    if isinstance(record.args, tuple):
        record.args = tuple(printable(value) if isinstance(value, str) else value for value in record.args)
    return True


class TextFormatter(logging.Formatter):
    """Formats a record as one line; only tracebacks and stacks have lines of their own below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return the line without the traceback. What the format itself has is left as it is."""
        record.message = printable(record.message)
        return super().formatMessage(record)


def refuse_format(template: str) -> None:
    """Raise ValueError with the reason if `template` can make no line: it has no field, half of one, or an unknown."""
    record = logging.LogRecord("celery.worker", logging.INFO, __file__, 1, "text", None, None)
    try:
        TextFormatter(template).format(record)
    except Exception as error:  # a format can fail in any way
        raise ValueError(str(error)) from error
