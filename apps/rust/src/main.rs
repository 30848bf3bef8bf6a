//! A key-value store with a log on disk and a protocol over TCP, filled by threads, with
//! panics that are caught: what programs in Rust do of a system.

mod store;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Barrier, Condvar, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use store::{Error, Store};

fn client(mut stream: TcpStream, store: &Store) -> io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines();
    for line in lines {
        match store.execute(&line?) {
            Ok(answer) => writeln!(stream, "{answer}")?,
            Err(e) => writeln!(stream, "error: {e}")?,
        }
    }
    Ok(())
}

fn ask(address: std::net::SocketAddr, text: &str) -> io::Result<String> {
    let mut s = TcpStream::connect(address)?;
    s.set_nodelay(true)?;
    s.write_all(text.as_bytes())?;
    s.shutdown(Shutdown::Write)?;
    let answers: io::Result<Vec<_>> = BufReader::new(s).lines().collect();
    Ok(answers?.join(", "))
}

fn network(store: &Arc<Store>) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let served = Arc::clone(store);
    let server = thread::spawn(move || {
        let clients: Vec<_> = listener.incoming().take(3).map(|stream| {
            let store = Arc::clone(&served);
            thread::spawn(move || client(stream?, &store))
        }).collect();
        clients.into_iter().map(|c| c.join().unwrap()).collect::<io::Result<Vec<_>>>()
    });
    println!("{}", ask(address, "set one 1\nset two 2\nget one\n")?);
    println!("{}", ask(address, "get three\nadd one 41\nget one\n")?);
    println!("{}", ask(address, "add two x\nfly\n")?);
    server.join().unwrap()?;

    let refused = TcpStream::connect(address).map_err(|e| e.kind());
    println!("refused {:?}", refused.err());
    let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    b.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut packet = [0; 16];
    let late = b.recv_from(&mut packet).map_err(|e| e.kind());
    a.send_to(b"datagram", b.local_addr()?)?;
    let (n, from) = b.recv_from(&mut packet)?;
    println!("nothing yet {}, then {} {}", late.is_err(), String::from_utf8_lossy(&packet[..n]), from == a.local_addr()?);
    let (mut x, y) = UnixStream::pair()?;
    x.write_all(b"through a pair\n")?;
    let mut line = String::new();
    BufReader::new(y).read_line(&mut line)?;
    print!("{line}");
    Ok(())
}

/// Counts how often it is dropped, also by a panic that passes.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn panics() {
    panic::set_hook(Box::new(|_| {}));
    let dropped = AtomicUsize::new(0);
    let caught = thread::scope(|s| {
        let all: Vec<_> = (0..50).map(|i| {
            let dropped = &dropped;
            s.spawn(move || {
                let _guards: Vec<_> = (0..10).map(|_| Counted(dropped)).collect();
                let v = vec![1, 2, 3];
                v[i % 6] // half of them are out of bounds
            })
        }).collect();
        all.into_iter().filter_map(|t| t.join().err()).count()
    });
    println!("{caught} threads panicked, {} dropped", dropped.load(Ordering::Relaxed));
    let shared = Mutex::new(1);
    let overflow = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut n = shared.lock().unwrap();
        *n = i32::MAX;
        *n = n.checked_add(1).expect("too large");
    }));
    let why = overflow.unwrap_err();
    println!("caught {:?}, poisoned {}", why.downcast_ref::<String>().map_or("", |s| s), shared.is_poisoned());
    let _ = panic::take_hook();
}

fn threads(store: &Arc<Store>) {
    let start = Instant::now();
    let (tx, rx) = mpsc::sync_channel(8);
    let barrier = Arc::new(Barrier::new(8));
    for t in 0..8 {
        let (tx, store, barrier) = (tx.clone(), Arc::clone(store), Arc::clone(&barrier));
        thread::Builder::new().name(format!("worker {t}")).spawn(move || {
            barrier.wait();
            for i in 0..100 {
                store.execute(&format!("add sum {}", t * 100 + i)).unwrap();
                tx.send((t, i)).unwrap();
            }
        }).unwrap();
    }
    drop(tx);
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    for (t, _) in rx {
        *seen.entry(t).or_default() += 1;
    }
    println!("{} threads, {} messages, sum {}", seen.len(), seen.values().sum::<usize>(), store.execute("get sum").unwrap());

    let words = RwLock::new(HashMap::new());
    thread::scope(|s| {
        for i in 0..4 {
            let words = &words;
            s.spawn(move || (0..50).for_each(|k| *words.write().unwrap().entry(k).or_insert(0) += i));
        }
    });
    println!("map of {} with {}", words.read().unwrap().len(), words.read().unwrap().values().sum::<i32>());

    let pair = (Mutex::new(false), Condvar::new());
    let (guard, timeout) = pair.1.wait_timeout(pair.0.lock().unwrap(), Duration::from_millis(30)).unwrap();
    println!("waited {} {}", timeout.timed_out(), !*guard && start.elapsed() >= Duration::from_millis(30));
}

fn processes() -> io::Result<()> {
    let mut cat = Command::new("/bin/sh").args(["-c", "read x; echo \"$x $NAME\"; exit 3"]).env_clear().env("NAME", "in a child")
        .stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    cat.stdin.take().unwrap().write_all(b"a line\n")?;
    let out = cat.wait_with_output()?;
    println!("{} {:?}", String::from_utf8_lossy(&out.stdout).trim(), out.status.code());
    let mut sleeper = Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn()?;
    println!("running {}", sleeper.try_wait()?.is_none());
    sleeper.kill()?;
    println!("killed by {:?}", sleeper.wait()?.signal());
    println!("{}", Command::new("/no/such/program").spawn().unwrap_err());
    Ok(())
}

fn run() -> Result<(), Error> {
    let log = std::env::temp_dir().join("store.log");
    let store = Arc::new(Store::open(&log)?);
    network(&store)?;
    threads(&store);
    panics();
    processes()?;
    let before = store.dump();
    drop(store);
    let again = Store::open(&log)?;
    println!("read again {} {}", again.dump() == before, before);
    std::fs::remove_file(&log)?;
    println!("{}", std::fs::File::open(&log).unwrap_err());
    println!("{} CPUs or more", thread::available_parallelism()?.get().min(1));
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::from(11),
        Err(e) => {
            println!("failed: {e}");
            ExitCode::FAILURE
        }
    }
}
