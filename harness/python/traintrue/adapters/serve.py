"""Serve mode: one process that has imported everything and trained nothing, and a fork of it per run.

What a fork shares with a process that was started: an exit status, a standard error, a process group and a memory of its own.
What it does not: whatever this process drew at its start, such as the seed of `hash`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from typing import IO, Any, Callable, Dict

Request = Dict[str, Any]


def serve(answers: IO[str], run: Callable[[], int]) -> int:
    """Forks once per line of standard input, until that is closed. In the fork, `run` does what the verb `run` does."""
    threads = threading.active_count()
    if threads > 1:
        print(f"{threads} threads run here, and a fork would have one of them only: cannot serve", file=sys.stderr)
        return 1
    return Server(answers, run).serve()


class Server:
    """The forks that run, by process id."""

    def __init__(self, answers: IO[str], run: Callable[[], int]) -> None:
        self.answers, self.run = answers, run
        self.children: Dict[int, int] = {}
        # A child that ends wakes `select`.
        self.wake, self.waker = os.pipe()
        for end in (self.wake, self.waker):
            os.set_blocking(end, False)

    def serve(self) -> int:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.waker)
        self.tell(ready=True)
        rest = b""
        while True:
            ready, _, _ = select.select([0, self.wake], [], [])
            if self.wake in ready:
                os.read(self.wake, 4096)
            self.reap()
            if 0 in ready:
                read = os.read(0, 65536)
                if not read:
                    return 0
                *lines, rest = (rest + read).split(b"\n")
                for line in lines:
                    self.fork(json.loads(line))

    def tell(self, **fields: Any) -> None:
        self.answers.write(json.dumps(fields) + "\n")
        self.answers.flush()

    def reap(self) -> None:
        """Says how each child ended that has ended."""
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = self.children.pop(pid)
            if os.WIFSIGNALED(status):
                self.tell(id=number, signal=os.WTERMSIG(status))
            else:
                self.tell(id=number, exit=os.WEXITSTATUS(status))

    def fork(self, request: Request) -> None:
        """A child whose standard input and output are the request's socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            # Before the fork, so that the answer to this request says that the connection is there.
            connection.connect(request["socket"])
            pid = os.fork()
            if pid == 0:
                os._exit(self.child(request, connection.fileno()))
        try:
            os.setpgid(pid, pid)
        except OSError:
            pass  # the child has done so already
        self.children[pid] = request["id"]
        self.tell(id=request["id"], pid=pid)

    def child(self, request: Request, connection: int) -> int:
        """What the fork does. Returns its exit status."""
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            said = os.open(request["stderr"], os.O_WRONLY | os.O_APPEND)
            for source, target in ((connection, 0), (connection, 1), (said, 2)):
                os.dup2(source, target)
            for end in (said, connection, self.wake, self.waker, self.answers.fileno()):
                os.close(end)
            os.environ.update(request["environment"])
            # Python's own random numbers are seeded again in a fork. numpy's are not.
            if "numpy" in sys.modules:
                sys.modules["numpy"].random.seed()
            return self.run()
        except SystemExit as exit_:
            if exit_.code is None or isinstance(exit_.code, int):
                return exit_.code or 0
            print(exit_.code, file=sys.stderr)
            return 1
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            sys.stderr.flush()
