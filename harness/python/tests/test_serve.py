"""Serve mode: each run is a fork with an end, an environment and a standard error of its own. Needs no torch."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict, Tuple

PACKAGE = Path(__file__).resolve().parent.parent

TRAINER = """
import os, random, sys, time
from traintrue.adapters.protocol import Declined, answer

runs = 0
contract = {}

def run(plan, writer):
    global runs
    runs += 1
    writer.event("run", runs=runs, pid=os.getpid(), drawn=random.random(), told=os.environ.get("TOLD"), own=sys.argv[1:-1])
    print("printed")
    exec(plan["does"])

description = {"trainer": "fake", "contract": contract}
raise SystemExit(answer(sys.argv[-1], description, run))
"""


@unittest.skipUnless(hasattr(os, "fork"), "needs fork")
class AServer(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        script = self.folder / "trainer.py"
        script.write_text(TRAINER, encoding="utf-8")
        words = [sys.executable, str(script), "--my-flag", "serve"]
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
        pipes: Dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.server = subprocess.Popen(words, env=environment, **pipes)
        self.addCleanup(self.server.communicate)
        self.assertEqual(self.answer(), {"ready": True})
        self.count = 0

    def answer(self) -> Dict[str, Any]:
        return json.loads(self.server.stdout.readline())

    def begin(self, does: str, **environment: str) -> Tuple[socket.socket, Path, int]:
        """A run that has its plan: the connection, the file of its standard error, and its process."""
        self.count += 1
        path, said = self.folder / str(self.count), self.folder / f"{self.count}.stderr"
        said.touch()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            request = {"id": self.count, "socket": str(path), "stderr": str(said), "environment": environment}
            self.server.stdin.write(json.dumps(request) + "\n")
            self.server.stdin.flush()
            connection, _ = listener.accept()
        begun = self.answer()
        self.assertEqual(begun["id"], self.count)
        connection.sendall(json.dumps({"does": does}).encode())
        connection.shutdown(socket.SHUT_WR)
        return connection, said, begun["pid"]

    def run_whole(self, does: str, **environment: str) -> Tuple[Dict[str, Any], Dict[str, Any], str]:
        """The first line of a run, how it ended, and its standard error."""
        connection, said, _ = self.begin(does, **environment)
        with connection, connection.makefile() as lines:
            trace = lines.read().splitlines()
        return json.loads(trace[0]), self.answer(), said.read_text(encoding="utf-8")

    def test_makes_each_run_as_fresh_as_the_first(self) -> None:
        first, ended, said = self.run_whole("pass", TOLD="17")
        second, _, _ = self.run_whole("pass")
        self.assertEqual((ended, said), ({"id": 1, "exit": 0}, "printed\n"))
        self.assertEqual([(it["runs"], it["own"]) for it in (first, second)], [(1, ["--my-flag"])] * 2)
        self.assertEqual((first["told"], second.get("told")), ("17", None))
        self.assertNotEqual((first["pid"], first["drawn"]), (second["pid"], second["drawn"]))

    def test_says_how_each_run_ended(self) -> None:
        for does, end, words in (
            ("sys.exit(86)", {"exit": 86}, ""),
            ("sys.exit('no luck')", {"exit": 1}, "no luck"),
            ("os._exit(7)", {"exit": 7}, ""),
            ("raise ValueError('out of luck')", {"exit": 1}, "ValueError: out of luck"),
            ("os.kill(os.getpid(), 11)", {"signal": 11}, ""),
            ("raise Declined('no adapters')", {"exit": 0}, ""),
        ):
            with self.subTest(does):
                _, ended, said = self.run_whole(does)
                self.assertEqual(ended, {"id": self.count, **end})
                self.assertIn(words, said)

    def test_goes_on_when_a_run_is_killed_with_all_that_it_started(self) -> None:
        other, _, _ = self.begin("time.sleep(1)")
        connection, _, pid = self.begin("import subprocess; subprocess.run(['sleep', '60'])")
        with connection, connection.makefile() as lines:
            lines.readline()
            os.killpg(pid, signal.SIGKILL)
            # Nobody holds the connection any more: the child's own child is gone, too.
            self.assertEqual(lines.read(), "")
        self.assertEqual(self.answer(), {"id": 2, "signal": 9})
        with other:
            self.assertEqual(self.answer(), {"id": 1, "exit": 0})

    def test_ends_with_its_input(self) -> None:
        self.server.stdin.close()
        self.assertEqual(self.server.wait(20), 0)
        self.server.stdin = None


class AnyVerb(unittest.TestCase):
    def run_once(self, does: str) -> Tuple[int, list]:
        folder = Path(tempfile.mkdtemp())
        (folder / "trainer.py").write_text(TRAINER, encoding="utf-8")
        words = [sys.executable, str(folder / "trainer.py"), "run"]
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
        plan = {"does": does, "scenario": "s", "run": "r"}
        ended = subprocess.run(words, env=environment, input=json.dumps(plan), capture_output=True, text=True, check=False)
        return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]

    def test_of_a_plan_that_is_declined_ends_well_and_gives_the_reason(self) -> None:
        status, events = self.run_once("raise Declined('no adapters in this model')")
        self.assertEqual((status, events[-1]), (0, {"event": "end", "reason": "declined", "message": "no adapters in this model"}))

    def test_that_fails_says_so_in_the_trace(self) -> None:
        status, events = self.run_once("raise ValueError('out of luck')")
        self.assertEqual((status, events[-1]["reason"], events[-1]["message"]), (1, "error", "ValueError: out of luck"))


if __name__ == "__main__":
    unittest.main()
