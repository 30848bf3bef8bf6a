# What programs in Ruby do of a system: threads, fork, pipes, signals, sockets, files.
require "digest"
require "open3"
require "socket"
require "tempfile"
require "timeout"

puts "threads #{(1..8).map { |n| Thread.new { (1..1000).sum * n } }.sum(&:value)}"

queue = Queue.new
consumer = Thread.new { Array.new(100) { queue.pop }.sum }
100.times { |n| queue << n }
puts "queue #{consumer.value}"

pids = (1..3).map { |n| fork { exit!(n) } }
puts "children #{pids.map { |pid| Process.wait2(pid)[1].exitstatus }}"
puts "fiber #{Fiber.new { |x| Fiber.yield(x + 1); 9 }.then { |f| [f.resume(1), f.resume] }}"

out, err, status = Open3.capture3("cat; echo oops >&2; exit 4", stdin_data: "through cat\n")
puts "capture #{[out, err, status.exitstatus]}"
puts "backticks #{`echo $((6 * 7))`}"

server = TCPServer.new("127.0.0.1", 0)
echo = Thread.new { server.accept.tap { |c| c.write(c.gets.upcase); c.close } }
TCPSocket.open("127.0.0.1", server.addr[1]) { |s| s.puts "over tcp"; puts s.read }
echo.join
a, b = UNIXSocket.pair
a.send_io($stdout)
b.recv_io.syswrite("a descriptor came over\n")

caught = Queue.new
trap("USR1") { Thread.main[:got] = Process.clock_gettime(Process::CLOCK_MONOTONIC) }
Process.kill("USR1", Process.pid)
sleep 0.01 until Thread.main[:got]
puts "signal caught"
begin
  Timeout.timeout(0.2) { sleep 100 }
rescue Timeout::Error => e
  puts e.message
end
begin
  File.open("/no/such")
rescue Errno::ENOENT => e
  puts e.message
end
Tempfile.create("kiln") do |f|
  f.write("x" * 100_000)
  f.flush
  puts "file #{Digest::SHA256.file(f.path).hexdigest[0, 12]} #{File.size(f.path)}"
end
$VERBOSE = nil # a Ractor is announced as experimental
puts "ractor #{Ractor.new { Ractor.receive * 2 }.send(21).take}"
puts "gc #{GC.start.inspect} #{ObjectSpace.count_objects[:TOTAL] > 1000}"
