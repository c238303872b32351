"""Who does the work of a command: processes of this machine, or a cluster that is there."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["cluster", "processes"]


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """Connect to the scheduler of a Dask cluster, which stays as it is."""
    try:
        import distributed
    except ModuleNotFoundError:
        raise ModuleNotFoundError("a cluster of Dask needs: pip install 'fp8sim[cluster]'") from None
    try:
        _check_reached(address)
        connect: Any = distributed.Client
        client = connect(address, timeout=10, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        words = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"no scheduler of Dask at {address}: {words}; write it like tcp://host:8786"
        ) from None
    with client, client.get_executor() as executor:
        yield executor


def _check_reached(address: str) -> None:
    """Connect and hang up: a client that does not reach a scheduler prints a traceback as it is forgotten."""
    scheme, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    if not (host and port.isascii() and port.isdigit()):
        raise ValueError("an address has a host and a port")
    if scheme in ("", "tcp", "tls"):
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@contextmanager
def processes(count: int | None) -> Iterator[Executor | None]:
    """Start so many processes, or none at all."""
    if count is None:
        yield None
        return
    import multiprocessing
    from concurrent.futures import InvalidStateError, ProcessPoolExecutor

    usual = threading.excepthook

    def hook(args: Any) -> None:
        """Say nothing of a share that was cancelled as its worker died: both are the interrupt's doing."""
        if not issubclass(args.exc_type, InvalidStateError):
            usual(args)

    spawn = multiprocessing.get_context("spawn")  # a process with threads cannot be forked safely
    threading.excepthook = hook
    with ProcessPoolExecutor(count, spawn, initializer=_begin) as pool:
        _start(pool)
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise  # and the hook stays: the pool's own thread may live until the command ends
    threading.excepthook = usual


def _start(pool: Executor) -> None:
    """Start the processes with interrupts held back, for good: it is this one that is interrupted."""
    if not hasattr(signal, "pthread_sigmask"):
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pool.submit(int)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Let a worker end with the command: at once and without a word, however that ends."""
    import multiprocessing

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)
