// Writes texts, indexes their words on a pool of threads, and serves the index over TCP to
// a client of its own: what programs in C++ do of a system.
#include "pool.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <locale>
#include <map>
#include <new>
#include <random>
#include <regex>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <system_error>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace fs = std::filesystem;
using namespace std::chrono_literals;

namespace {

// A descriptor that is closed with its scope.
class Socket {
public:
    explicit Socket(int fd) : fd(fd) {
        if (fd < 0)
            throw std::system_error(errno, std::generic_category(), "socket");
    }
    ~Socket() { close(fd); }
    Socket(const Socket &) = delete;
    int get() const { return fd; }
    void send(const std::string &s) const {
        if (::send(fd, s.data(), s.size(), MSG_NOSIGNAL) != ssize_t(s.size()))
            throw std::system_error(errno, std::generic_category(), "send");
    }
    std::string line() const {
        std::string s;
        char c;
        while (recv(fd, &c, 1, 0) == 1 && c != '\n')
            s += c;
        return s;
    }

private:
    int fd;
};

class Index {
public:
    void add(const std::string &word, const std::string &file) {
        std::unique_lock lock(mu);
        words[word][file]++;
    }
    int count(const std::string &word) const {
        std::shared_lock lock(mu);
        auto it = words.find(word);
        if (it == words.end())
            throw std::out_of_range("no " + word);
        int n = 0;
        for (auto &[_, k] : it->second)
            n += k;
        return n;
    }
    size_t size() const { return words.size(); }

private:
    mutable std::shared_mutex mu;
    std::map<std::string, std::map<std::string, int>> words;
};

void writeTexts(const fs::path &dir, int files, int words) {
    std::minstd_rand random(42);
    for (int i = 0; i < files; i++) {
        auto at = dir / ("part" + std::to_string(i % 4));
        fs::create_directories(at);
        std::ofstream out(at / ("text" + std::to_string(i) + ".txt"));
        out.exceptions(std::ios::badbit | std::ios::failbit);
        for (int w = 0; w < words; w++)
            out << "Word" << random() % 97 << (w % 12 == 11 ? ".\n" : " ");
    }
}

long indexFile(Index &index, const fs::path &file) {
    std::ifstream in(file);
    static const std::regex word("[A-Za-z]+[0-9]+");
    std::string line;
    long n = 0;
    while (std::getline(in, line))
        for (std::sregex_iterator it(line.begin(), line.end(), word), end; it != end; ++it, n++) {
            std::string w = it->str();
            std::transform(w.begin(), w.end(), w.begin(), [](unsigned char c) { return std::tolower(c); });
            index.add(w, file.filename());
        }
    return n;
}

void serve(const Socket &listener, const Index &index, Pool &pool, int clients) {
    std::vector<std::future<void>> all;
    for (int i = 0; i < clients; i++) {
        auto conn = std::make_shared<Socket>(accept(listener.get(), nullptr, nullptr));
        all.push_back(pool.submit([conn, &index] {
            for (std::string w; !(w = conn->line()).empty();)
                try {
                    conn->send(std::to_string(index.count(w)) + "\n");
                } catch (const std::out_of_range &e) {
                    conn->send(std::string(e.what()) + "\n");
                }
        }));
    }
    for (auto &f : all)
        f.get();
}

void network(const Index &index) {
    Socket listener(socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof a;
    if (bind(listener.get(), reinterpret_cast<sockaddr *>(&a), len) || listen(listener.get(), 16) ||
        getsockname(listener.get(), reinterpret_cast<sockaddr *>(&a), &len))
        throw std::system_error(errno, std::generic_category(), "listen");
    Pool pool(4);
    std::thread server([&] { serve(listener, index, pool, 4); });
    std::vector<std::string> answers;
    for (int i = 0; i < 4; i++) {
        Socket s(socket(AF_INET, SOCK_STREAM, 0));
        if (connect(s.get(), reinterpret_cast<sockaddr *>(&a), len))
            throw std::system_error(errno, std::generic_category(), "connect");
        s.send("word" + std::to_string(i) + "\nnothing\n");
        auto first = s.line(), second = s.line();
        answers.push_back(std::to_string(std::stoi(first) == index.count("word" + std::to_string(i))) + " " + second);
        s.send("\n");
    }
    server.join();
    for (auto &s : answers)
        std::cout << "over tcp " << s << "\n";
}

struct Guard {
    std::atomic<int> &n;
    ~Guard() { n++; }
};

// Throws through frames that must be unwound, from a depth of its own.
int deep(int n, std::atomic<int> &unwound) {
    Guard g{unwound};
    if (n == 0)
        throw std::runtime_error("from the bottom");
    return deep(n - 1, unwound) + 1;
}

void exceptions() {
    std::atomic<int> unwound = 0;
    Pool pool(4);
    std::vector<std::future<int>> all;
    for (int i = 0; i < 100; i++)
        all.push_back(pool.submit([&] { return deep(50, unwound); }));
    int caught = 0;
    for (auto &f : all)
        try {
            f.get();
        } catch (const std::runtime_error &) {
            caught++;
        }
    std::cout << "exceptions " << caught << " of 100, " << unwound << " frames unwound\n";
    try {
        std::ifstream in;
        in.exceptions(std::ios::failbit);
        in.open("/no/such/file");
    } catch (const std::ios::failure &e) {
        std::cout << "no file: " << std::strerror(errno) << "\n";
    }
    try {
        std::cout << fs::file_size("/no/such/file") << " bytes\n";
    } catch (const fs::filesystem_error &e) {
        std::cout << "no file: " << e.code().message() << "\n";
    }
    try {
        std::vector<char> much(size_t(1) << 46);
        std::cout << "too much memory\n";
    } catch (const std::bad_alloc &e) {
        std::cout << "too much: " << e.what() << "\n";
    }
}

thread_local int mine = 0;

void threads() {
    std::atomic<long> sum = 0;
    std::vector<std::thread> all;
    for (int i = 1; i <= 8; i++)
        all.emplace_back([i, &sum] {
            for (int k = 0; k < 10000; k++)
                mine += i;
            sum += mine;
        });
    for (auto &t : all)
        t.join();
    std::cout << "threads " << sum << " here " << mine << "\n";
    std::timed_mutex held;
    std::lock_guard lock(held);
    auto start = std::chrono::steady_clock::now();
    bool got = std::async(std::launch::async, [&] { return held.try_lock_for(50ms); }).get();
    auto waited = std::chrono::steady_clock::now() - start;
    std::cout << "timed lock " << got << " after 50 ms " << (waited >= 50ms && waited < 20s) << "\n";
}

} // namespace

int main() try {
    std::cout << std::boolalpha;
    auto dir = fs::temp_directory_path() / "texts";
    writeTexts(dir, 40, 600);
    Index index;
    long n = 0;
    {
        Pool pool(4);
        std::vector<std::future<long>> counts;
        for (auto &e : fs::recursive_directory_iterator(dir))
            if (e.is_regular_file())
                counts.push_back(pool.submit([&index, p = e.path()] { return indexFile(index, p); }));
        for (auto &c : counts)
            n += c.get();
    }
    std::cout << "indexed " << n << " words, " << index.size() << " different, word7 " << index.count("word7") << " times\n";
    network(index);
    exceptions();
    threads();
    fs::rename(dir / "part0", dir / "moved");
    fs::create_symlink("moved", dir / "link");
    std::cout << "moved " << fs::is_directory(dir / "link") << ", removed " << fs::remove_all(dir) << "\n";
    return 42;
} catch (const std::exception &e) {
    std::cout << "failed: " << e.what() << std::endl;
    return 1;
}
