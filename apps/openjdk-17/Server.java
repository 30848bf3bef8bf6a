import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicLong;

/** An HTTP server of the JDK's own with four threads: a page, a counter, and an echo. */
public class Server {
    private static final AtomicLong visits = new AtomicLong();

    private static void answer(HttpExchange x, int status, byte[] body) throws IOException {
        x.sendResponseHeaders(status, body.length);
        x.getResponseBody().write(body);
        x.close();
    }

    private static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    public static void main(String[] args) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress(8080), 64);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.createContext("/", x -> {
            boolean root = x.getRequestURI().getPath().equals("/");
            answer(x, root ? 200 : 404, bytes(root ? "<h1>Java in Kiln</h1>\n" : "there is no such page\n"));
        });
        server.createContext("/visits", x -> answer(x, 200, bytes(visits.incrementAndGet() + "\n")));
        server.createContext("/echo", x -> answer(x, 200, x.getRequestBody().readAllBytes()));
        server.start();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("shutting down")));
        System.out.println("listening on port 8080");
    }
}
