// Package debtest makes Debian packages and an apt-get for tests.
package debtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Member is a file of an ar archive.
type Member struct {
	Name string
	Data []byte
}

// Ar is an archive.
func Ar(members ...Member) []byte {
	out := []byte("!<arch>\n")
	for _, m := range members {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.Name, 0, 0, 0, "100644", len(m.Data))
		out = append(out, m.Data...)
		if len(m.Data)%2 == 1 {
			out = append(out, '\n')
		}
	}
	return out
}

func tarOf(headers ...tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		data := []byte(h.PAXRecords["data"])
		h.PAXRecords = nil
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(data))
		}
		h.ModTime = time.Unix(1e9, 0)
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
		w.Write(data)
	}
	w.Close()
	return b.Bytes()
}

// Reg is a regular file with its content, mode 4755, owner 3:4.
func Reg(name, data string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o4755, Uid: 3, Gid: 4, PAXRecords: map[string]string{"data": data}}
}

// Package is a package file; compress is one of XZ, Zstd and Plain.
func Package(name, depends string, compress func([]byte) Member, files ...tar.Header) []byte {
	control := tarOf(Reg("./control", "Package: "+name+"\nVersion: 1:2.3\nArchitecture: amd64\nDepends: "+depends+"\nDescription: x\n Depends: no\n"))
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write(control)
	w.Close()
	return Ar(Member{"debian-binary", []byte("2.0\n")}, Member{"control.tar.gz", gz.Bytes()}, compress(tarOf(files...)))
}

// XZ compresses a package's data.
func XZ(b []byte) Member {
	var out bytes.Buffer
	w, _ := xz.NewWriter(&out)
	w.Write(b)
	w.Close()
	return Member{"data.tar.xz", out.Bytes()}
}

// Zstd compresses a package's data.
func Zstd(b []byte) Member {
	w, _ := zstd.NewWriter(nil)
	return Member{"data.tar.zst", w.EncodeAll(b, nil)}
}

// Plain leaves a package's data as it is.
func Plain(b []byte) Member { return Member{"data.tar", b} }

// FakeApt puts an apt-get into PATH that serves packages from the folder $FAKE_APT. A
// file nonet there makes `update` fail, a file stale everything before an `update`; of two
// updates at a time one fails, as with apt. What "install" would bring beside NAME is in
// NAME.depends there. With a file NAME.installed this machine has a version of NAME that is
// in no source, which apt takes for the best.
func FakeApt(t *testing.T, debs map[string][]byte) (calls func() string) {
	t.Helper()
	dir := t.TempDir()
	for name, b := range debs {
		if err := os.WriteFile(filepath.Join(dir, name+"_1%3a2.3_amd64.deb"), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script := `#!/bin/sh
echo "$@" >> ` + dir + `/log
for last; do :; done
D=` + dir + `
[ "$last" = update ] && { [ -f $D/nonet ] && { echo "E: no network" >&2; exit 100; }
	mkdir $D/lock 2>/dev/null || { echo "E: Could not get lock $D/lock. It is held by process 1 (apt-get)" >&2; exit 100; }
	sleep 0.2; touch $D/updated; rmdir $D/lock; exit 0; }
[ -f $D/stale ] && [ ! -f $D/updated ] && { echo "E: Unable to locate package $last" >&2; exit 100; }
names=$last
case "$*" in
*" install "*) names=${*##* -y }; for n in $names; do [ -f $D/$n.depends ] && names="$names $(cat $D/$n.depends)"; done ;;
*" download --print-uris "*) ;;
*" download "*) names=${*##* download } ;;
esac
for n in $names; do
	case "$n, $*" in
	*=*,*|*status=/dev/null*) ;;
	*) [ ! -e $D/$n.installed ] || { echo "E: Can't find a source to download version '9' of '$n:amd64'" >&2; exit 100; } ;;
	esac
	f=$(ls $D/"${n%%=*}"_*.deb 2>/dev/null)
	[ "$f" ] || { echo "E: Unable to locate package $n" >&2; exit 100; }
	case "$*" in
	*--print-uris*) echo "'http://x/$(basename $f)' $(basename $f) 12 SHA256:0" ;;
	*) cp "$f" . ;;
	esac
done
`
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("FAKE_APT", dir)
	return func() string {
		b, _ := os.ReadFile(filepath.Join(dir, "log"))
		return string(b)
	}
}
