"""A terminal with a program in it.

Must not know: what the program is.
"""

import os
import pty
import select
import time


class Terminal:
    """Runs `kiln WORDS` of a project in a terminal of 100 columns; `seen` is what it has printed."""

    def __init__(self, project, *words):
        self.project, self.words, self.seen = project, words, ""

    def __enter__(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "AZURE_", "KILN_"))}
        env |= self.project.env | {"KILN_CONFIG": str(self.project.folder / "config.yaml"), "TERM": "xterm", "COLUMNS": "100"}
        self.pid, self.end_of_it = pty.fork()
        if self.pid == 0:
            os.chdir(self.project.folder)
            os.execve(self.project.program, [self.project.program, *self.words], env)
        return self

    def __exit__(self, *_):
        os.close(self.end_of_it)

    def type(self, text):
        os.write(self.end_of_it, text.encode())

    def read(self, seconds):
        if select.select([self.end_of_it], [], [], seconds)[0]:
            try:
                self.seen += os.read(self.end_of_it, 65536).decode(errors="replace")
            except OSError:
                # The program has closed its side.
                time.sleep(0.05)

    def until(self, text, seconds=30):
        """Waits until the program has printed this since the last call."""
        end, begin = time.monotonic() + seconds, len(self.seen)
        while text not in self.seen:
            if time.monotonic() > end:
                raise SystemExit(f"`{text}` was not printed within {seconds} s: {self.seen[begin:]}")
            self.read(0.2)

    def end(self, seconds=60):
        """The exit code of the program."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read(0.2)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.read(0)
                return os.waitstatus_to_exitcode(status)
        raise SystemExit(f"{self.words} did not end within {seconds} s: {self.seen}")
