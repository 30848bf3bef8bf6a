// Package manifest reads the YAML document that says what goes into an image and how
// to try it out.
//
//	name: nginx
//	about: the web server, serving a page on port 80
//	program: /usr/sbin/nginx          # from this host, else from the packages
//	packages: [nginx, nginx-common]   # Debian's
//	args: [-c, /etc/nginx/nginx.conf]
//	ports: [80]
//	files:
//	  - path: /etc/nginx/mime.types   # from where the program came from
//	  - path: /etc/nginx/nginx.conf
//	    from: nginx.conf              # beside the manifest
//	smoke:
//	  - http: {port: 80, path: /, contains: [Kiln]}
//
// Keys that are not known are errors: a misspelt one must not be lost in silence.
package manifest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"gopkg.in/yaml.v3"
	"kiln/kernel/image"
)

// FileName is a manifest's name in its folder.
const FileName = "manifest.yaml"

// Manifest describes one image.
type Manifest struct {
	Name  string `yaml:"name"`
	About string `yaml:"about"`
	// Program is the absolute path of the executable in the image.
	Program string `yaml:"program"`
	// Build, if set, makes the program from source.
	Build *Build `yaml:"build"`
	// Packages are Debian packages to take files from when this host lacks them.
	Packages []string `yaml:"packages"`
	// FetchAll fetches the packages and all that they depend on in one go, which is quicker
	// than library by library where there are many.
	FetchAll bool `yaml:"fetch_all"`
	// Args are the arguments without argv[0], which is Argv0 or the program's name.
	Args     []string          `yaml:"args"`
	Argv0    string            `yaml:"argv0"`
	Env      map[string]string `yaml:"env"`
	WorkDir  string            `yaml:"workdir"`
	User     User              `yaml:"user"`
	Hostname string            `yaml:"hostname"`
	Ports    []int             `yaml:"ports"`
	Memory   string            `yaml:"memory"` // what pack run gives, as "256M"
	CPUs     int               `yaml:"cpus"`   // what pack run gives; 0 is one
	Network  struct {
		Mode    string   `yaml:"mode"`
		Address string   `yaml:"address"`
		Gateway string   `yaml:"gateway"`
		DNS     []string `yaml:"dns"`
		MTU     int      `yaml:"mtu"`
	} `yaml:"network"`
	Mounts []struct {
		Type    string `yaml:"type"`
		Source  string `yaml:"source"`
		Target  string `yaml:"target"`
		Options string `yaml:"options"`
	} `yaml:"mounts"`
	Limits   map[string]Limit `yaml:"limits"`
	AtExit   string           `yaml:"at_exit"`
	LogLevel string           `yaml:"log_level"`
	Compress string           `yaml:"compress"` // how files are stored: capstan/erofs.Compression
	// Programs, instead of Program and Args, are several that the kernel supervises.
	Programs []Program `yaml:"programs"`
	// Files are put into the root beside the program and its libraries.
	Files []File `yaml:"files"`
	// Libraries are those that the program opens at run time (dlopen), by soname.
	Libraries []string `yaml:"libraries"`
	// Users are added to /etc/passwd and /etc/group beside root and nobody.
	Users []Account `yaml:"users"`
	Smoke []Smoke   `yaml:"smoke"`

	// Dir is the manifest's folder.
	Dir fs.FS `yaml:"-"`
}

// Build makes a program: with Go, or with commands in a root of Debian packages.
type Build struct {
	// Go is a folder beside the manifest with a Go main package, which becomes Program.
	Go string `yaml:"go"`
	// Packages are unpacked, with dash, coreutils and all that they depend on, into a root
	// of their own. They are not configured: what their scripts would do, Run has to.
	Packages []string `yaml:"packages"`
	// From is a folder beside the manifest, a copy of which Run starts in.
	From string `yaml:"from"`
	// Run is a script for sh -e in that root, without a network. What it puts below
	// $DESTDIR goes into the image.
	Run string `yaml:"run"`
}

// User is whom the program runs as.
type User struct {
	UID uint32 `yaml:"uid"`
	GID uint32 `yaml:"gid"`
}

// Account is a line of /etc/passwd and one of /etc/group.
type Account struct {
	Name string `yaml:"name"`
	UID  uint32 `yaml:"uid"`
	GID  uint32 `yaml:"gid"`
	Home string `yaml:"home"`
	// Shell is what a login starts; none: nologin.
	Shell string `yaml:"shell"`
	// Password is as crypt(3) has it; none: nobody logs in with one.
	Password string `yaml:"password"`
}

// File is a file, a link or a folder of the root. With no source named it comes from
// where the program comes from, a folder with all that is in it.
type File struct {
	Path string  `yaml:"path"`
	From string  `yaml:"from"` // a file or folder beside the manifest
	Text *string `yaml:"text"` // the content itself
	Link string  `yaml:"link"` // the target of a symbolic link
	Dir  bool    `yaml:"dir"`  // an empty folder
	// Package is a Debian package, of which every file comes that is at or below Path
	// ("/" if it is empty), but for documentation.
	Package string `yaml:"package"`
	// Exclude are patterns (path.Match) for names, or with a slash for paths below
	// Path, that are left out.
	Exclude  []string `yaml:"exclude"`
	Optional bool     `yaml:"optional"` // no error if it is not there
	Mode     *uint32  `yaml:"mode"`     // permissions, in octal as 0755
	UID      *uint32  `yaml:"uid"`
	GID      *uint32  `yaml:"gid"`
}

// Load reads the manifest of a folder.
func Load(dir fs.FS) (*Manifest, error) {
	b, err := fs.ReadFile(dir, FileName)
	if err != nil {
		return nil, err
	}
	m, err := Parse(b)
	if err != nil {
		return nil, err
	}
	m.Dir = dir
	return m, nil
}

// Parse decodes and checks a document.
func Parse(b []byte) (*Manifest, error) {
	m := &Manifest{}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(m); err != nil {
		if err == io.EOF {
			return nil, errors.New("the manifest is empty")
		}
		return nil, explain(err)
	}
	if err := d.Decode(new(any)); err != io.EOF {
		return nil, errors.New("the manifest has more than one document")
	}
	return m, m.check()
}

// Config is the image's configuration.
func (m *Manifest) Config() *image.Config {
	argv0 := m.Argv0
	if argv0 == "" {
		argv0 = path.Base(m.Program)
	}
	c := &image.Config{
		Version: image.ConfigVersion, Name: m.Name,
		Env: Environment(m.Env), WorkDir: m.WorkDir, UID: m.User.UID, GID: m.User.GID, Hostname: m.Hostname,
		AtExit: m.AtExit, LogLevel: m.LogLevel, Ports: m.Ports, CPUs: m.CPUs,
	}
	if c.Hostname == "" {
		c.Hostname = strings.ToLower(m.Name)
	}
	if m.Memory != "" {
		c.Memory, _ = ParseSize(m.Memory)
	}
	n := m.Network
	c.Network = image.Network{Mode: n.Mode, Address: n.Address, Gateway: n.Gateway, DNS: n.DNS, MTU: n.MTU}
	for _, mt := range m.Mounts {
		c.Mounts = append(c.Mounts, image.Mount{Type: mt.Type, Source: mt.Source, Target: mt.Target, Options: mt.Options})
	}
	c.Limits = limits(m.Limits)
	for i := range m.Programs {
		c.Programs = append(c.Programs, m.Programs[i].image())
	}
	if len(m.Programs) == 0 {
		c.Program, c.Args = m.Program, append([]string{argv0}, m.Args...)
	}
	return c
}
