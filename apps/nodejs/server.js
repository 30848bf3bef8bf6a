// An HTTP server: a page, a counter and what comes in a request's body.
"use strict";
const http = require("node:http");

let visits = 0;

async function body(req) {
  let text = "";
  for await (const chunk of req) text += chunk;
  return text;
}

const server = http.createServer(async (req, res) => {
  const url = new URL(req.url, "http://localhost");
  switch (url.pathname) {
    case "/":
      res.setHeader("Content-Type", "text/html");
      return res.end("<h1>Node.js in Kiln</h1>\n");
    case "/visits":
      res.setHeader("Content-Type", "application/json");
      return res.end(JSON.stringify({ visits: ++visits, from: url.searchParams.get("from") }) + "\n");
    case "/echo":
      return res.end(await body(req));
  }
  res.statusCode = 404;
  res.end("there is no such page\n");
});

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => server.close(() => process.exit(0)));
}
server.listen(8080, () => console.log("listening on port 8080"));
