package cli

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	goerofs "github.com/erofs/go-erofs"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"kiln/capstan/erofs"
	"kiln/kernel/image"
)

// printJSON writes characters that a terminal would obey, which JSON may have in its strings
// as they are, as escapes.
func (a *app) printJSON(v any) error {
	var text, safe bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	for _, r := range text.String() {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			safe.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&safe, "\\u%04x", r)
		default:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&safe, "\\u%04x\\u%04x", hi, lo)
		}
	}
	_, err := a.out.Write(safe.Bytes())
	return err
}

// shown is a name as a terminal may have it: in quotes if there is anything that it would obey.
func shown(name string) string {
	if utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return name
	}
	return strconv.Quote(name)
}

func (a *app) lsCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "ls", Short: "List the catalogue", Args: exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			type entry struct {
				Name  string `json:"name"`
				About string `json:"about"`
				Ports []int  `json:"ports,omitempty"`
			}
			list := []entry{}
			for _, name := range a.cat.Names() {
				m, err := a.cat.Load(name)
				if err != nil {
					return err
				}
				list = append(list, entry{name, m.About, m.Ports})
			}
			if asJSON {
				return a.printJSON(list)
			}
			w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
			for _, e := range list {
				fmt.Fprintf(w, "%s\t%s\n", e.Name, e.About)
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

// report is what inspect shows.
type report struct {
	File    string          `json:"file"`
	Size    int64           `json:"size"`
	MinRAM  uint64          `json:"min_ram"`
	Kernel  int64           `json:"kernel_size"`
	Root    uint64          `json:"root_size"`
	OnDisk  bool            `json:"root_on_disk_only,omitempty"` // too large for memory
	Config  json.RawMessage `json:"config"`
	Files   []fileReport    `json:"files"`
	Segment []segReport     `json:"segments"`
}

type fileReport struct {
	Path string `json:"path"`
	Mode string `json:"mode"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	Size int64  `json:"size"`
	Link string `json:"link,omitempty"`
}

type segReport struct {
	Phys  uint64 `json:"phys"`
	File  uint64 `json:"file_size"`
	Mem   uint64 `json:"mem_size"`
	Flags string `json:"flags"`
}

func (a *app) inspectCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "inspect IMAGE", Short: "Show an image's kernel, configuration, files and sizes", Args: exactly(1, "which image"),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := inspect(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(r)
			}
			return a.printReport(r)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

func inspect(name string) (*report, error) {
	fi, err := os.Stat(name)
	if err == nil && !fi.Mode().IsRegular() { // to open it may be to wait
		return nil, usagef("%s is no file: give an image that `pack` has made", name)
	}
	if err != nil {
		return nil, usagef("the image cannot be read: %w", err)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef("the image cannot be read: %w", err)
	}
	defer f.Close()
	img, err := image.Open(f, fi.Size())
	if err != nil {
		return nil, usagef("%s is no image (%w): make one with `pack NAME` or `pack build`", name, err)
	}
	r := &report{File: name, Size: fi.Size(), MinRAM: img.Boot.MinRAM, Kernel: img.SegmentOff, Root: img.Header.RootLen, OnDisk: img.Detached,
		Config: img.RawConfig, Files: []fileReport{}}
	for _, s := range img.Segments {
		flags := []byte("---")
		for i, bit := range []uint32{4, 2, 1} {
			if s.Flags&bit != 0 {
				flags[i] = "rwx"[i]
			}
		}
		r.Segment = append(r.Segment, segReport{s.Phys, s.FileSize, s.MemSize, string(flags)})
	}
	if img.Header.RootLen == 0 {
		return r, nil
	}
	root, err := erofs.List(img.RootSection(f))
	if err != nil {
		return nil, fmt.Errorf("the root of %s is damaged (%w): bake it again", name, err)
	}
	if r.Files, err = files(root, img.Header.RootLen/leastEntry); err != nil {
		return nil, fmt.Errorf("the root of %s is damaged (%w): bake it again", name, err)
	}
	return r, nil
}

// leastEntry is what a name takes in an image at least: a folder's entry for it, and one letter.
const leastEntry = 13

// files lists a root. One that was made to harm may have folders in themselves, or one folder's
// entries for many: it has no folder twice, and at most so many names.
func files(root fs.FS, most uint64) ([]fileReport, error) {
	list, folders := []fileReport{}, map[int64]bool{}
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		fr := fileReport{Path: "/" + p, Size: fi.Size()}
		if p == "." {
			fr.Path = "/"
		}
		if st, ok := fi.Sys().(*goerofs.Stat); ok {
			if d.IsDir() && folders[st.Ino] || len(p) > 2*unix.PathMax {
				return fmt.Errorf("the folder %.40s is in itself or in two places", fr.Path)
			}
			folders[st.Ino] = folders[st.Ino] || d.IsDir()
			fr.UID, fr.GID, fr.Mode = st.UID, st.GID, st.Mode.String()
			if st.Mode&fs.ModeSymlink != 0 {
				fr.Link, _ = fs.ReadLink(root, p)
			}
		}
		if list = append(list, fr); uint64(len(list)) > most {
			return errors.New("it has more names than there is room for")
		}
		return nil
	})
	return list, err
}

func (a *app) printReport(r *report) error {
	where := ""
	if r.OnDisk {
		where = ", read from a disk: it is too large for memory"
	}
	fmt.Fprintf(a.out, "image   %s, %s\nkernel  %s\nroot    %s, %d files%s\nmemory  at least %s\n\n", r.File, megabytes(r.Size),
		megabytes(r.Kernel), megabytes(int64(r.Root)), len(r.Files), where, megabytes(int64(r.MinRAM)))
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "physical\tin file\tin memory\t \t")
	for _, s := range r.Segment {
		fmt.Fprintf(w, "%#x\t%d\t%d\t%s\t\n", s.Phys, s.File, s.Mem, s.Flags)
	}
	w.Flush()
	fmt.Fprintln(a.out, "\nconfiguration")
	var v any
	if err := json.Unmarshal(r.Config, &v); err != nil {
		return err
	}
	if err := a.printJSON(r.Config); err != nil {
		return err
	}
	fmt.Fprintln(a.out, "\nfiles")
	w = tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, f := range r.Files {
		arrow := ""
		if f.Link != "" {
			arrow = " -> " + shown(f.Link)
		}
		fmt.Fprintf(w, "%s\t%d:%d\t%d\t%s%s\n", f.Mode, f.UID, f.GID, f.Size, shown(f.Path), arrow)
	}
	return w.Flush()
}

// The table of system calls, written by cmd/gensyscalls from the kernel's own, which
// the packager may not import.
//
//go:generate go run ../../cmd/gensyscalls -o syscalls.json
//go:embed syscalls.json
var syscallFile embed.FS

// Syscall is a row of the table.
type Syscall struct {
	Nr      int    `json:"nr"`
	Name    string `json:"name"`
	Support string `json:"support"` // full, partial, stub or none
	Level   string `json:"level"`   // what the conformance cases show of that; "claimed" where they do not
	Note    string `json:"note,omitempty"`
}

func (a *app) syscallsCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "syscalls", Short: "List every x86-64 system call and its status here", Args: exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			b, err := syscallFile.ReadFile("syscalls.json")
			if err != nil {
				return err
			}
			var list []Syscall
			if err := json.Unmarshal(b, &list); err != nil {
				return err
			}
			sort.Slice(list, func(i, j int) bool { return list[i].Nr < list[j].Nr })
			if asJSON {
				return a.printJSON(list)
			}
			w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
			count, shown := map[string]int{}, map[string]int{}
			for _, s := range list {
				count[s.Support]++
				shown[s.Level]++
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", s.Nr, s.Name, s.Support, s.Level, s.Note)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "\n%d calls: %d full, %d partial, %d stub, %d none\n", len(list), count["full"], count["partial"], count["stub"], count["none"])
			fmt.Fprintf(a.out, "shown by the conformance cases: %d full, %d partial; claimed: %d\n", shown["full"], shown["partial"], shown["claimed"])
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}
