"""Processes that work together: multiprocessing in all its ways, and subprocess."""

import multiprocessing as mp
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory


def square(n):
    return n * n


def fail(n):
    raise ValueError(f"no {n}")


def consume(tasks, results):
    for n in iter(tasks.get, None):
        results.put((n, square(n)))


def count(counter, lock, times):
    for _ in range(times):
        with lock:
            counter.value += 1


def fill(name, at, text):
    segment = shared_memory.SharedMemory(name=name)
    segment.buf[at : at + len(text)] = text
    segment.close()


def meet(barrier, event, conn):
    barrier.wait()
    event.wait()
    conn.send({"pid": os.getpid(), "parent": os.getppid()})
    conn.close()


def pool(ctx):
    with ctx.Pool(3) as p:
        print("map", sum(p.map(square, range(200))))
        print("unordered", sorted(p.imap_unordered(square, range(5))))
        try:
            p.apply(fail, (7,))
        except ValueError as e:
            print("raised", e)


def queue(ctx):
    tasks, results = ctx.Queue(), ctx.Queue()
    workers = [ctx.Process(target=consume, args=(tasks, results)) for _ in range(3)]
    for w in workers:
        w.start()
    for n in range(50):
        tasks.put(n)
    for _ in workers:
        tasks.put(None)
    print("queue", sum(dict(results.get() for _ in range(50)).values()))
    for w in workers:
        w.join()
    print("exit codes", [w.exitcode for w in workers])


def shared(ctx):
    counter, lock = ctx.Value("q", 0, lock=False), ctx.Lock()
    workers = [ctx.Process(target=count, args=(counter, lock, 500)) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    print("counter", counter.value)
    segment = shared_memory.SharedMemory(create=True, size=8192)
    parts = [b"pages ", b"of ", b"memory"]
    at = 0
    for part in parts:
        w = ctx.Process(target=fill, args=(segment.name, at, part))
        w.start()
        w.join()
        at += len(part)
    print("segment", bytes(segment.buf[:at]).decode())
    segment.close()
    segment.unlink()
    print("left in /dev/shm", [n for n in os.listdir("/dev/shm") if n.startswith("psm_")])


def together(ctx):
    barrier, event = ctx.Barrier(3), ctx.Event()
    ends = []
    for _ in range(2):
        here, there = ctx.Pipe()
        ctx.Process(target=meet, args=(barrier, event, there)).start()
        ends.append(here)
    barrier.wait()
    event.set()
    said = [e.recv() for e in ends]
    print("met", len({s["pid"] for s in said}), "children of one parent", len({s["parent"] for s in said}))
    for child in mp.active_children():
        child.join()
    with ctx.Manager() as manager:
        d = manager.dict(a=1)
        with ProcessPoolExecutor(2, mp_context=ctx) as ex:
            list(ex.map(d.__setitem__, "bcd", (2, 3, 4)))
        print("manager", dict(sorted(d.items())))


def killed(ctx):
    p = ctx.Process(target=time.sleep, args=(100,))
    p.start()
    p.kill()
    p.join()
    print("killed", p.exitcode == -signal.SIGKILL)


def programs():
    r = subprocess.run(["/bin/sh", "-c", "cat; echo oops >&2; exit 3"], input=b"through cat\n", capture_output=True)
    print("run", r)
    a = subprocess.Popen("for i in 3 1 2; do echo $i; done", shell=True, stdout=subprocess.PIPE)
    b = subprocess.run(["sort"], stdin=a.stdout, capture_output=True, text=True, env={"LC_ALL": "C"})
    print("pipe", b.stdout.split(), a.wait())
    try:
        subprocess.run(["sleep", "100"], timeout=0.3)
    except subprocess.TimeoutExpired as e:
        print("timeout", round(e.timeout, 1))
    try:
        subprocess.run(["/no/such/program"])
    except FileNotFoundError as e:
        print("missing", e.filename)
    big = b"x" * (1 << 20)
    print("much", subprocess.run(["cat"], input=big, capture_output=True).stdout == big)
    # pause would wait for ever for a signal that came just before it.
    p = subprocess.Popen([sys.executable, "-c", "import signal, sys, time; signal.signal(15, lambda *a: sys.exit(9)); print(1, flush=True)\n"
                          "while True: time.sleep(0.1)"], stdout=subprocess.PIPE, start_new_session=True)
    p.stdout.readline()
    os.killpg(p.pid, signal.SIGTERM)
    print("terminated", p.wait())


def main():
    for method in ("fork", "spawn", "forkserver"):
        print("with", method)
        ctx = mp.get_context(method)
        pool(ctx)
        if method == "fork":
            for part in (queue, shared, together, killed):
                part(ctx)
    programs()
    print("threads left", threading.active_count())


if __name__ == "__main__":
    main()
