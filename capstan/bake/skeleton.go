package bake

import (
	"fmt"
	"io/fs"
	"strings"

	"kiln/capstan/deb"
	"kiln/capstan/manifest"
	"kiln/capstan/tree"
)

// skeleton lays what every root has: the links into /usr, the mount points, the
// folders programs write to, and the few files of /etc that a C library reads.
func (b *builder) skeleton(users []manifest.Account) error {
	base := deb.BaseLayout()
	err := base.Walk(func(name string, n *tree.Node) error {
		if name == "/" {
			return nil
		}
		// A host that keeps /lib apart from /usr/lib stays as it is.
		if host, err := b.opts.host().Lstat(name); err == nil && host.Mode.IsDir() {
			return b.out.Add(name, tree.Dir(0o755))
		}
		return b.out.Add(name, n)
	})
	if err != nil {
		return err
	}
	dirs := map[string]fs.FileMode{
		"/dev": 0o755, "/proc": 0o555, "/sys": 0o555, "/run": 0o755, "/etc": 0o755, "/root": 0o700, "/var/log": 0o755,
		"/var/lib": 0o755, "/var/cache": 0o755, "/tmp": 0o777 | fs.ModeSticky, "/var/tmp": 0o777 | fs.ModeSticky,
		"/usr/bin": 0o755, "/usr/sbin": 0o755, "/usr/lib": 0o755, "/usr/lib64": 0o755,
	}
	for name, mode := range dirs {
		if err := b.out.Add(name, tree.Dir(mode)); err != nil {
			return err
		}
	}
	if err := b.out.Add("/var/run", tree.Symlink("/run")); err != nil {
		return err
	}
	return b.etc(users)
}

// accounts are root, those of the manifest, which may say more about root, and nobody.
func accounts(users []manifest.Account) []manifest.Account {
	root := manifest.Account{Name: "root", Home: "/root"}
	var all []manifest.Account
	for _, u := range users {
		if u.Name != "root" {
			all = append(all, u)
			continue
		}
		if root = u; root.Home == "" {
			root.Home = "/root"
		}
	}
	all = append([]manifest.Account{root}, all...)
	return append(all, manifest.Account{Name: "nobody", UID: 65534, GID: 65534})
}

// groupTTY is who may write to terminals: /dev/pts gives them to it.
const groupTTY = 5

func (b *builder) etc(users []manifest.Account) error {
	var passwd, group, shadow, shells strings.Builder
	tty := true
	for _, u := range accounts(users) {
		home, gname, shell, password := u.Home, u.Name, u.Shell, u.Password
		if home == "" {
			home = "/nonexistent"
		}
		if u.Name == "nobody" {
			gname = "nogroup"
		}
		if shell == "" {
			shell = "/usr/sbin/nologin"
		} else if !strings.Contains(shells.String(), shell+"\n") {
			shells.WriteString(shell + "\n")
		}
		if password == "" {
			password = "*"
		}
		tty = tty && u.GID != groupTTY && gname != "tty"
		fmt.Fprintf(&passwd, "%s:x:%d:%d:%s:%s:%s\n", u.Name, u.UID, u.GID, u.Name, home, shell)
		fmt.Fprintf(&group, "%s:x:%d:\n", gname, u.GID)
		fmt.Fprintf(&shadow, "%s:%s:19000:0:99999:7:::\n", u.Name, password)
	}
	if tty {
		fmt.Fprintf(&group, "tty:x:%d:\n", groupTTY)
	}
	files := map[string]string{
		"/etc/passwd":        passwd.String(),
		"/etc/group":         group.String(),
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n",
		"/etc/hosts":         "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
	}
	if shells.Len() > 0 { // somebody can log in
		files["/etc/shells"], files["/etc/shadow"] = shells.String(), shadow.String()
	}
	for name, text := range files {
		mode := fs.FileMode(0o644)
		if name == "/etc/shadow" {
			mode = 0o600
		}
		if err := b.out.Add(name, tree.File(mode, []byte(text))); err != nil {
			return err
		}
	}
	return nil
}
