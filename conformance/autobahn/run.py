#!/usr/bin/env python3
"""Runs the Autobahn WebSocket suite against berthd built with the feature `websocket-echo`.

usage: run.py BERTHD WORKDIR

Installs the suite under WORKDIR (kept for the next run), starts BERTHD on a free port, runs the cases, and fails unless
every one of them passed. Left out: compression (12, 13), which Berth does not negotiate, and the speed of big messages
(9), which is a benchmark.

The suite is written for Python 2.7, which most systems do not have any more: PYTHON2 names one, or `python2.7` is on the
path. That is why it is no part of `make test`; what it checks is checked there by conformance/tests/websocket_frames.rs.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

SUITE = "autobahntestsuite==25.10.1"
GOOD = {"OK", "INFORMATIONAL"}
CONFIG = """
router.bind = "127.0.0.1:0"
http.bind = "127.0.0.1:0"
websocket.app.bind = "127.0.0.1:0"
websocket.page.bind = "127.0.0.1:0"
websocket.app.max_message_bytes = 16777216
"""


def install(workdir):
    """The command that runs the suite."""
    python = os.environ.get("PYTHON2") or shutil.which("python2.7")
    if not python:
        sys.exit("missing: Python 2.7 with pip, for the Autobahn suite (PYTHON2 names one)")
    packages = workdir / "packages"
    os.environ["PYTHONUSERBASE"] = str(packages)
    if not packages.exists():
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--user", SUITE], check=True)
    return [python, "-m", "autobahntestsuite.wstest"]


def run_cases(wstest, workdir, port):
    reports = workdir / "reports"
    spec = {
        "outdir": str(reports),
        "servers": [{"agent": "berthd", "url": f"ws://127.0.0.1:{port}/ws"}],
        "cases": ["*"],
        "exclude-cases": ["9.*", "12.*", "13.*"],
    }
    spec_file = workdir / "spec.json"
    spec_file.write_text(json.dumps(spec))
    command = [*wstest, "-m", "fuzzingclient", "-s", spec_file]
    with open(workdir / "wstest.log", "w") as log:
        subprocess.run(command, check=True, cwd=workdir, stdout=log, stderr=log, timeout=900)
    return json.loads((reports / "index.json").read_text())["berthd"]


def main():
    berthd, workdir = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    wstest = install(workdir)
    config = workdir / "berthd.toml"
    config.write_text(CONFIG)
    with open(workdir / "berthd.log", "w") as log:
        daemon = subprocess.Popen([berthd, "--config", config], stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            ready = dict(pair.split("=", 1) for pair in daemon.stdout.readline().split()[1:])
            results = run_cases(wstest, workdir, ready["app"].rsplit(":", 1)[1])
        finally:
            daemon.terminate()
            daemon.wait(timeout=30)
    judged = [(case, key, result[key]) for case, result in results.items() for key in ("behavior", "behaviorClose")]
    failed = sorted({case: verdict for case, _, verdict in judged if verdict not in GOOD}.items())
    for case, verdict in failed:
        print(f"autobahn case {case}: {verdict}")
    print(f"autobahn: {len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
