"""How the service's processes write their log: one line of JSON each to standard error, plain text on a terminal."""

import sys

import structlog


def configure() -> None:
    """Set up structlog for this process.

    Tracebacks are plain: structlog's own default prints local variables, and those of a request's frames
    hold its headers, Authorization among them.
    """
    is_terminal = sys.stderr.isatty()
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    last = [plain] if is_terminal else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        # The stream is looked up at each line: a test or a daemon may have replaced it.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
