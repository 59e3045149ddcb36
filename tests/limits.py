"""What a full disk does, without one."""

import contextlib
import resource
import signal


@contextlib.contextmanager
def files_up_to(size):
    """For a moment only, because pytest's own output may go to a longer file."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
