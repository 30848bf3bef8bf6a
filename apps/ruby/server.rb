# A WEBrick server with a page, a servlet that counts, and one that asks a child process.
require "webrick"
require "json"

visits = 0
lock = Mutex.new
server = WEBrick::HTTPServer.new(Port: 8080, AccessLog: [], DocumentRoot: "/srv/www")
server.mount_proc "/visits" do |req, res|
  res.content_type = "application/json"
  res.body = JSON.generate(visits: lock.synchronize { visits += 1 }, from: req.query["from"])
end
server.mount_proc "/child" do |_, res|
  reader, writer = IO.pipe
  pid = fork do
    reader.close
    writer.write "a child of #{Process.ppid == 1 ? 'process 1' : Process.ppid}"
    exit! 0
  end
  writer.close
  res.body = reader.read
  Process.wait pid
end
%w[INT TERM].each { |signal| trap(signal) { server.shutdown } }
server.start
