package suites

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"kiln/kernel/image"
)

// Linux runs an image's program (argv[0] is its path) with the files of the image on this
// host's kernel: as root of PID, mount, network, IPC and host name namespaces of its own,
// with a tmpfs as root and a loopback as its network. What it prints on /dev/console goes
// to out.
func Linux(ctx context.Context, img string, out io.Writer, argv ...string) error {
	dir, err := os.MkdirTemp("", "suites-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cfg, err := extract(img, filepath.Join(dir, "root.erofs"))
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	go io.Copy(out, r)
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts", "sh", "-c", enter, "sh", dir, cfg.WorkDir}, argv...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = cfg.Env, w, w
	err = cmd.Run()
	w.Close()
	if err != nil {
		return fmt.Errorf("%v on Linux: %w", argv, err)
	}
	return nil
}

// enter is done in the new namespaces: $1 the folder with root.erofs, $2 the working
// folder, then the program. /dev/console is the terminal that Kiln's console is there.
const enter = `set -e
PATH=$PATH:/usr/sbin:/sbin
mount --make-rprivate /
mount -t tmpfs -o size=8g,mode=755 none "$1"/mnt 2>/dev/null || { mkdir "$1"/mnt; mount -t tmpfs -o size=8g,mode=755 none "$1"/mnt; }
fsck.erofs --extract="$1"/mnt --overwrite --preserve "$1"/root.erofs >/dev/null
cd "$1"/mnt
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 dev dev
for n in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  IFS=: read name major minor <<EOT
$n
EOT
  mknod -m 666 dev/$name c $major $minor
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s /proc/1/fd/1 dev/console
ip link set lo up
dir=$2; shift 2
exec chroot . /usr/bin/env -C "$dir" "$@"
`

// extract writes an image's root to a file.
func extract(img, to string) (*image.Config, error) {
	f, err := os.Open(img)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	i, err := image.Open(f, st.Size())
	if err != nil {
		return nil, err
	}
	w, err := os.Create(to)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(w, i.RootSection(f)); err != nil {
		w.Close()
		return nil, err
	}
	return i.Config, w.Close()
}
