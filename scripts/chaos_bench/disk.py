"""The small disk that holds the run of a chaos run, and what can be done to it."""
import os
import shutil
import signal
import subprocess
from pathlib import Path

from chaos_bench.cluster import command, must, wait_for


class Disk:
    """A small ext4 file system of its own, mounted before the box goes up, so that all nodes see
    it: it can be filled and made read-only without harm to anything else. The run sees it through
    FUSE, whose server can be stopped, where there is FUSE."""

    def __init__(self, folder, mebibytes=64):
        self.at, self.behind = folder / "disk", folder / "disk-behind"
        for path in (self.at, self.behind):
            path.mkdir()
        self.ballast = self.behind / "ballast"
        image = folder / "disk.img"
        with open(image, "wb") as file:
            file.truncate(mebibytes << 20)
        made = command("mkfs.ext4", "-q", "-m", "0", image)
        mounted = made.returncode == 0 and command("mount", "-o", "loop", image, self.behind)
        self.own = bool(mounted) and mounted.returncode == 0
        self.behind.chmod(0o777)
        self.at.chmod(0o777)
        self.server = self.why_no_fuse = None
        if self.own:
            self.mount_fuse()

    def mount_fuse(self):
        if not os.path.exists("/dev/fuse"):
            self.why_no_fuse = "there is no /dev/fuse"
        elif not shutil.which("bindfs"):
            self.why_no_fuse = "bindfs is not installed (scripts/setup --tests installs it)"
        else:
            self.server = subprocess.Popen(["bindfs", "-f", "-o", "allow_other", self.behind, self.at],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(lambda: os.path.ismount(self.at) or self.server.poll() is not None, 20, "a mount")
            if self.server.poll() is not None:
                self.server, self.why_no_fuse = None, "nothing can be mounted with FUSE"
        if not self.server:
            must("mount", "--bind", self.behind, self.at)

    def hang(self):
        """Until answer(). Its users are stopped: no request may be in the server's hands, since who
        waits for that one cannot be killed."""
        waiting = Path(f"/sys/fs/fuse/connections/{os.minor(os.stat(self.at).st_dev)}/waiting")
        wait_for(lambda: not waiting.exists() or waiting.read_text().strip() == "0", 20,
                 "a moment without requests", pause=0.02)
        self.server.send_signal(signal.SIGSTOP)

    def answer(self):
        self.server.send_signal(signal.SIGCONT)

    def fill(self):
        """To the last byte; again and again, because the run frees a little when it clears up."""
        with open(self.ballast, "ab", buffering=0) as file:
            size = 1 << 20
            while size:
                try:
                    os.posix_fallocate(file.fileno(), file.tell(), size)
                    file.seek(0, os.SEEK_END)
                except OSError:
                    size //= 2

    def free(self):
        self.ballast.unlink()

    def read_only(self):
        # Refused while some file is open for writing.
        wait_for(lambda: command("mount", "-o", "remount,ro", self.behind).returncode == 0, 20,
                 "a read-only remount", pause=0.005)

    def writable(self):
        must("mount", "-o", "remount,rw", self.behind)

    def unmount(self):
        for path in (self.at, self.behind) if self.own else ():
            wait_for(lambda: command("umount", path).returncode == 0, 20, "umount")
        if self.server:
            self.server.wait(timeout=30)
