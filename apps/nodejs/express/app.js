// Notes over HTTP: routes, middleware, parsed bodies, cookies, files and errors of express.
"use strict";
const express = require("express");
const path = require("node:path");
const fs = require("node:fs/promises");

const app = express();
const notes = new Map();
const folder = "/tmp/notes";
let requests = 0;

app.disable("etag");
app.use((req, res, next) => {
  res.set("X-Request", String(++requests));
  next();
});
app.use(express.json());
app.use(express.urlencoded({ extended: true }));
app.use("/static", express.static(path.join(__dirname, "public")));

app.get("/", (req, res) => res.send("<h1>Express in Kiln</h1>\n"));

const router = express.Router();
router.param("id", (req, res, next, id) => {
  req.note = notes.get(Number(id));
  next(req.note ? undefined : Object.assign(new Error("no note " + id), { status: 404 }));
});
router.get("/", (req, res) => res.json([...notes.values()].filter((n) => n.text.includes(req.query.has ?? ""))));
router.post("/", async (req, res, next) => {
  try {
    if (typeof req.body.text !== "string") throw Object.assign(new Error("a note has a text"), { status: 422 });
    const note = { id: notes.size + 1, text: req.body.text };
    notes.set(note.id, note);
    await fs.mkdir(folder, { recursive: true });
    await fs.writeFile(path.join(folder, note.id + ".json"), JSON.stringify(note));
    res.status(201).location("/notes/" + note.id).cookie("last", note.id).json(note);
  } catch (e) {
    next(e);
  }
});
router.get("/:id", (req, res) => res.format({ text: () => res.send(req.note.text), json: () => res.json(req.note) }));
router.get("/:id/file", (req, res) => res.sendFile(path.join(folder, req.note.id + ".json")));
app.use("/notes", router);

app.get("/broken", () => {
  throw new Error("this page is broken");
});
app.use((req, res) => res.status(404).send("there is no such page\n"));
app.use((err, req, res, next) => res.status(err.status ?? 500).json({ error: err.message }));

const server = app.listen(8080, () => console.log("notes on port 8080"));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
