"""A disk that can be made to hang: a folder mounted over itself by FUSE, whose server is stopped."""
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SKIPPED = 77  # ctest shows it as skipped


class HangingDisk:
    def __init__(self, folder):
        """Mounted at folder/disk. Ends the program, as skipped and with the reason, where that
        cannot be."""
        self.at, behind = Path(folder) / "disk", Path(folder) / "behind"
        for path in (self.at, behind):
            path.mkdir()
            path.chmod(0o777)
        if not os.path.exists("/dev/fuse"):
            self.skip("there is no /dev/fuse")
        if not shutil.which("bindfs"):
            self.skip("bindfs is not installed (scripts/setup --tests installs it)")
        self.server = subprocess.Popen(["bindfs", "-f", "-o", "allow_other,dev,suid", behind, self.at],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while not os.path.ismount(self.at):
            if self.server.poll() is not None:
                self.skip("nothing can be mounted with FUSE here: " + self.server.stderr.read().strip())
            time.sleep(0.02)
        device = os.stat(self.at).st_dev
        self.waiting = Path(f"/sys/fs/fuse/connections/{os.minor(device)}/waiting")

    def skip(self, reason):
        print("skipped: " + reason, flush=True)
        shutil.rmtree(self.at.parent, ignore_errors=True)
        sys.exit(SKIPPED)

    def hang(self, users):
        """From now on nothing answers. The processes `users` are stopped for a moment, so that the
        server has no request in its hands: who waits for that one cannot even be killed."""
        for pid in users:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(0.3)
        while self.waiting.exists() and self.waiting.read_text().strip() != "0":
            time.sleep(0.02)
        self.server.send_signal(signal.SIGSTOP)
        for pid in users:
            os.kill(pid, signal.SIGCONT)

    def answer(self):
        self.server.send_signal(signal.SIGCONT)

    def unmount(self):
        self.answer()
        for _ in range(100):
            if subprocess.run(["umount", self.at], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", "-l", self.at], capture_output=True)
        try:
            self.server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.server.kill()
