"""Process 1 of a run of CPython's test suite: it runs test modules by the suite's own
runner and prints a line of JSON for each test's outcome.

    python3 /suite.py [-limit SECONDS] OUT MODULE...

OUT is the file that gets the lines, each behind a record separator. A test that says
nothing for SECONDS is ended and is a "hang", one that takes the interpreter with it a
"crash"; the module is then started again without the tests that have had their turn.
MODULE@user runs as a user without privileges.
"""

import json
import os
import signal
import sys
import time

WORK = "/tmp/suite"
USER = 1000


def child(module, results, ignore, only):
    """Runs one module in this process, by test.libregrtest."""
    from test.support import testresult
    from test.libregrtest.main import main

    def say(**line):
        with open(results, "a") as f:
            f.write(json.dumps(line) + "\n")

    def name(test):
        return test.id() if hasattr(test, "id") else str(test)

    def text(test, err):
        return testresult.traceback.format_exception(*err)

    base = testresult.RegressionTestResult

    class Result(base):
        def startTest(self, test):
            self.verdict, self.detail = None, ""
            say(start=name(test))
            super().startTest(test)

        def note(self, verdict, detail=""):
            if self.verdict not in ("fail", "error"):
                self.verdict, self.detail = verdict, detail

        def outside(self, test, verdict, detail=""):
            # setUpClass and its like fail and skip outside of any test
            if getattr(self, "verdict", "?") == "?" or not hasattr(test, "_testMethodName"):
                say(id=name(test), result=verdict, detail=detail)
                return True
            return False

        def stopTest(self, test):
            super().stopTest(test)
            say(id=name(test), result=self.verdict or "pass", detail=self.detail)
            self.verdict = "?"

        def addError(self, test, err):
            detail = "".join(text(test, err))[-4000:]
            if not self.outside(test, "fail", detail):
                self.note("fail", detail)
            super().addError(test, err)

        def addFailure(self, test, err):
            self.note("fail", "".join(text(test, err))[-4000:])
            super().addFailure(test, err)

        def addSubTest(self, test, subtest, err):
            if err is not None:
                self.note("fail", str(subtest) + "\n" + "".join(text(test, err))[-4000:])
            super().addSubTest(test, subtest, err)

        def addUnexpectedSuccess(self, test):
            self.note("fail", "unexpected success")
            super().addUnexpectedSuccess(test)

        def addSkip(self, test, reason):
            if not self.outside(test, "skip", reason):
                self.note("skip", reason)
            super().addSkip(test, reason)

    testresult.RegressionTestResult = Result
    argv = ["-u", "all,-urlfetch,-gui,-audio,-extralargefile"]
    if os.path.exists(ignore):
        argv += ["--ignorefile", ignore]
    for pattern in only:
        argv += ["-m", pattern]
    sys.argv = ["regrtest"] + argv + [module]
    try:
        main()
    finally:
        say(done=True)


def reap():
    """Collects every child that has ended: a module's status, if it is among them."""
    ended = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def kill_all():
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return


def tail(name, size=6000):
    try:
        with open(name, "rb") as f:
            f.seek(max(0, os.path.getsize(name) - size))
            return f.read().decode(errors="replace")
    except OSError:
        return ""


def run(module, out, limit, only):
    name, _, user = module.partition("@")
    results, ignore = f"{WORK}/{module}.results", f"{WORK}/{module}.ignore"
    ignored = []
    for round in range(1000):
        log = f"{WORK}/{module}.log"
        with open(ignore, "w") as f:
            f.write("".join(i + "\n" for i in ignored))
        open(results, "w").close()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for sig in signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGPIPE:
                signal.signal(sig, signal.SIG_DFL)  # whatever who started this had made of them
            null, fd = os.open("/dev/null", os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(null, 0)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            os.closerange(3, 100)
            if user:
                os.chown(results, USER, USER)
                os.setgroups([])
                os.setresgid(USER, USER, USER)
                os.setresuid(USER, USER, USER)
                os.environ["HOME"] = "/home/user"
                os.chdir("/home/user")
            os.execv("/usr/bin/python3", ["python3", "/suite.py", "-child", results, ignore if ignored else "-", name] + only)
        current, done, status, last = None, False, None, time.monotonic()
        at = 0
        killed = False
        while True:
            ended = reap()
            if pid in ended:
                status = ended[pid]
            with open(results) as f:
                f.seek(at)
                new = f.read()
            new = new[: new.rfind("\n") + 1]
            at += len(new.encode())
            for line in new.splitlines():
                last = time.monotonic()
                line = json.loads(line)
                if "start" in line:
                    current = line["start"]
                elif "id" in line:
                    if line["id"] == current:
                        current = None
                    ignored.append(line["id"])
                    say(out, module=module, **line)
                elif "done" in line:
                    done = True
            if status is not None and not new:
                break
            if time.monotonic() - last > limit and not killed:
                killed = True
                try:
                    os.kill(pid, signal.SIGABRT)  # faulthandler says where it is
                    time.sleep(1)
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)
        kill_all()
        if done and not killed:
            break
        what = "hang" if killed else "crash"
        if current is None:
            # between tests, or before the first
            say(out, module=module, id=f"{module} ({'after ' + ignored[-1] if ignored else 'at its start'})", result=what, detail=f"status {status:#x}\n" + tail(log))
            if not only and killed and ignored and not done:
                continue
            break
        ignored.append(current)
        say(out, module=module, id=current, result=what, detail=f"status {status:#x}\n" + tail(log))
    say(out, module=module, done=True, log=tail(log, 1500))


def say(out, **line):
    data = ("\x1e" + json.dumps(line) + "\n").encode()
    fd = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
    while data:
        data = data[os.write(fd, data) :]
    os.close(fd)


def main():
    args = sys.argv[1:]
    if args[0] == "-child":
        results, ignore, module, *only = args[1:]
        child(module, results, ignore, only)
        return
    limit = 120
    if args[0] == "-limit":
        limit, args = float(args[1]), args[2:]
    os.makedirs(WORK, exist_ok=True)
    out, *modules = args
    for module in modules:
        module, *only = module.split(":")
        run(module, out, limit, only)


if __name__ == "__main__":
    main()
