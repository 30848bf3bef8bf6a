package boot

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What an image has in /run and /tmp is in the machine, a program can start there, and a
// mount's target is made with the folders above it.
func TestTheRootHasWhatTheImageHas(t *testing.T) {
	dir := t.TempDir()
	const doc = `name: rooted
network: {mode: none}
program: /tmp/tools/start
workdir: /run/app
mounts: [{type: tmpfs, target: /var/lib/app/cache, options: mode=0700}]
files:
  - {path: /run/app, dir: true}
  - {path: /run/app/conf, text: "from the image\n"}
  - path: /tmp/tools/start
    mode: 0755
    text: |
      #!/bin/sh -e
      pwd
      while read line; do echo "$line"; done <conf
      echo written >conf; while read line; do echo "$line"; done <conf
      : >/var/lib/app/cache/x; : >/run/x; : >/tmp/x
      while read dev at type rest; do case $at in /run|/tmp|/var/lib/app/cache) echo "$at $type";; esac; done </proc/mounts
      exit 7
`
	if err := os.WriteFile(filepath.Join(dir, "manifest.yaml"), []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
	console, status := run(t, time.Minute, image(t, dir), nil)
	if status != 7 {
		t.Errorf("status %d", status)
	}
	order(t, console, "(?m)^/run/app\r?$", "(?m)^from the image\r?$", "(?m)^written\r?$",
		"/tmp overlay", "/run overlay", "/var/lib/app/cache tmpfs")
}
