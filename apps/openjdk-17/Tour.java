import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.StandardWatchEventKinds;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;

/** What programs in Java do of a system: threads, processes, files, sockets, the collector. */
public class Tour {
    public static void main(String[] args) throws Exception {
        threads();
        processes();
        files();
        sockets();
        collector();
        failures();
        System.exit(7);
    }

    static void threads() throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(8);
        AtomicInteger shared = new AtomicInteger();
        List<Callable<Integer>> work = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            int n = i;
            work.add(() -> {
                for (int j = 0; j < 100; j++) {
                    shared.incrementAndGet();
                    synchronized (shared) {
                        shared.notifyAll();
                    }
                }
                return n;
            });
        }
        int sum = 0;
        for (Future<Integer> f : pool.invokeAll(work)) {
            sum += f.get();
        }
        pool.shutdown();
        System.out.println("threads " + sum + " " + shared + " " + pool.awaitTermination(10, TimeUnit.SECONDS));
        System.out.println("streams " + IntStream.range(0, 100000).parallel().mapToLong(i -> i).sum());
    }

    static void processes() throws Exception {
        Process p = new ProcessBuilder("/bin/sh", "-c", "cat; exit 3").start();
        p.getOutputStream().write("through cat\n".getBytes());
        p.getOutputStream().close();
        System.out.print(new String(p.getInputStream().readAllBytes()));
        System.out.println("status " + p.waitFor());
        Process sleeper = new ProcessBuilder("sleep", "100").start();
        System.out.println("alive " + sleeper.toHandle().isAlive() + " parent " + (sleeper.toHandle().parent().get().pid() == ProcessHandle.current().pid()));
        sleeper.destroyForcibly();
        System.out.println("killed " + sleeper.waitFor());
        try {
            new ProcessBuilder("/no/such/program").start();
        } catch (IOException e) {
            System.out.println(e.getMessage());
        }
    }

    static void files() throws Exception {
        Path dir = Files.createTempDirectory("kiln");
        try (var watcher = dir.getFileSystem().newWatchService()) {
            dir.register(watcher, StandardWatchEventKinds.ENTRY_CREATE);
            Path file = dir.resolve("a");
            Files.writeString(file, "x".repeat(100000));
            System.out.println("created " + watcher.poll(20, TimeUnit.SECONDS).pollEvents().get(0).context());
            byte[] hash = MessageDigest.getInstance("SHA-256").digest(Files.readAllBytes(file));
            System.out.println("file " + HexFormat.of().formatHex(hash).substring(0, 12));
            try (FileChannel c = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE); FileLock lock = c.lock()) {
                MappedByteBuffer map = c.map(FileChannel.MapMode.READ_WRITE, 4096, 8192);
                map.put(0, (byte) 'y');
                map.force();
                ByteBuffer one = ByteBuffer.allocate(1);
                c.read(one, 4096);
                System.out.println("mapped " + (char) one.get(0) + " " + lock.isValid());
            }
            Files.delete(file);
        }
        Files.delete(dir);
    }

    static void sockets() throws Exception {
        try (ServerSocket server = new ServerSocket(0)) {
            Thread t = new Thread(() -> {
                try (Socket s = server.accept()) {
                    s.getInputStream().transferTo(s.getOutputStream());
                } catch (IOException e) {
                    System.out.println(e);
                }
            });
            t.start();
            try (Socket s = new Socket("127.0.0.1", server.getLocalPort())) {
                s.getOutputStream().write("over tcp".getBytes());
                s.shutdownOutput();
                System.out.println("socket " + new String(s.getInputStream().readAllBytes()));
            }
            t.join();
        }
        Path path = Path.of("/tmp/kiln.sock");
        var address = UnixDomainSocketAddress.of(path);
        try (ServerSocketChannel server = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
            server.bind(address);
            try (SocketChannel client = SocketChannel.open(address); SocketChannel served = server.accept()) {
                served.write(ByteBuffer.wrap("over unix".getBytes()));
                ByteBuffer b = ByteBuffer.allocate(100);
                client.read(b);
                System.out.println("socket " + new String(b.array(), 0, b.position()));
            }
        }
        Files.delete(path);
    }

    static void collector() {
        long kept = 0;
        List<byte[]> live = new ArrayList<>();
        for (int i = 0; i < 4000; i++) {
            byte[] b = new byte[50000];
            if (i % 400 == 0) {
                live.add(b);
            }
        }
        for (byte[] b : live) {
            kept += b.length;
        }
        System.out.println("kept " + kept);
    }

    static int depth;

    static void deeper() {
        depth++;
        deeper();
    }

    static void failures() throws Exception {
        try {
            deeper();
        } catch (StackOverflowError e) {
            System.out.println("overflow " + (depth > 1000));
        }
        try {
            Object none = null;
            none.hashCode();
        } catch (NullPointerException e) {
            System.out.println("null caught");
        }
        try {
            Files.readString(Path.of("/no/such"));
        } catch (NoSuchFileException e) {
            System.out.println("no file " + e.getMessage());
        }
    }
}
