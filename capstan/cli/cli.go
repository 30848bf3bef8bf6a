// Package cli is the commands of pack.
//
// What goes wrong is said in one sentence on standard error that begins with "pack: "
// and tells what to do. Status 1 means that something failed, 2 that what was asked
// for cannot be: a flag, a name or a file that is no use. `pack run` gives the
// program's own status.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"
	"kiln/apps"
	"kiln/capstan/bake"
	"kiln/capstan/catalogue"
	"kiln/capstan/elfinfo"
	"kiln/capstan/erofs"
	"kiln/capstan/manifest"
	"kiln/capstan/tree"
	"kiln/kernel/image"
)

// app is what the commands share.
type app struct {
	out, err io.Writer
	cat      *catalogue.Catalogue
	kernel   string
	quiet    bool
	noHost   bool
	compress string
	status   int    // of pack run
	control  string // pack run's --control
	// interrupted is the signal that ended the work.
	interrupted os.Signal
	hangup      []os.Signal // hangup()
}

// usageError is a mistake in what was asked for: status 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Main runs pack with its arguments and gives its exit status.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{out: stdout, err: stderr, cat: catalogue.New(apps.FS), hangup: hangup()}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && a.interrupted != nil {
		fmt.Fprintf(stderr, "pack: ended by %v, nothing was made\n", a.interrupted)
		return 128 + int(a.interrupted.(syscall.Signal))
	}
	if err == nil {
		return a.status
	}
	fmt.Fprintln(stderr, "pack:", oneLine(err.Error()))
	return statusOf(err)
}

// oneLine makes a message a line of text whatever bytes a file or a name had that it
// speaks of: a terminal must not obey them.
func oneLine(msg string) string {
	var b strings.Builder
	msg = strings.TrimSpace(strings.ReplaceAll(msg, "\n", "; "))
	for _, r := range strings.ToValidUTF8(msg, "\ufffd") {
		if r == '\t' {
			r = ' '
		}
		if !unicode.IsPrint(r) {
			r = '\ufffd'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func statusOf(err error) int {
	var usage usageError
	var bad *elfinfo.Error
	var missing *elfinfo.MissingError
	switch {
	case errors.As(err, &usage), errors.As(err, &bad), errors.As(err, &missing):
		return 2
	}
	return 1
}

func (a *app) root() *cobra.Command {
	var output string
	root := &cobra.Command{
		Use:   "pack NAME",
		Short: "Bake a Linux program into a machine image that boots straight into it",
		Long: `pack bakes an unmodified Linux program, its libraries and its configuration into one
file that a virtual machine boots in a moment. NAME is an entry of the catalogue
(pack ls), a program in PATH, or the path of a program, a manifest's folder or an
unpacked root.`,
		Example: `  pack nginx                    bake nginx.img
  pack run nginx                bake it if needed, and boot it
  pack run -p 8080:80 nginx     the same, at http://127.0.0.1:8080
  pack run ./hello -- a b       a program of your own, with arguments`,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("one name at a time, not %d: `pack run %s -- ARGS` gives a program arguments", len(args), args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return a.build(cmd.Context(), args[0], "", output)
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w: see `%s --help`", err, cmd.CommandPath())
	})
	root.Flags().StringVarP(&output, "output", "o", "", "the image's file (default NAME.img)")
	root.PersistentFlags().StringVar(&a.kernel, "kernel", "", "the kernel's ELF file (default: $"+bake.KernelEnv+", kernel.elf beside pack, or build/kernel.elf)")
	root.PersistentFlags().BoolVar(&a.noHost, "no-host", false, "bake a catalogue entry or a manifest from Debian's packages alone, with no file of this machine's system")
	root.PersistentFlags().StringVar(&a.compress, "compress", "", "how the files of an image are stored: auto, none, lz4 or lz4hc (default: the manifest's, else auto, which is lz4hc where that makes the image a tenth smaller; a plain pack run NAME does not compress by itself)")
	root.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "say nothing but errors")
	root.AddCommand(a.buildCmd(), a.runCmd(), a.lsCmd(), a.inspectCmd(), a.syscallsCmd(), a.smokeCmd())
	for _, name := range []string{"ps", "logs", "stop", "rm", "export"} {
		root.AddCommand(notYet(name))
	}
	return root
}

// notYet is a command of the plan that this version does not have.
func notYet(name string) *cobra.Command {
	return &cobra.Command{
		Use: name, Hidden: true, DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return usagef("`pack %s` is not in this version", name)
		},
	}
}

func (a *app) buildCmd() *cobra.Command {
	var output, program string
	c := &cobra.Command{
		Use:   "build PATH|NAME|deb:PACKAGE|oci:REF|DIR",
		Short: "Bake a program, a manifest, a Debian package, a container image or an unpacked root",
		Args:  exactly(1, "what to bake"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.build(cmd.Context(), args[0], program, output)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "the image's file (default NAME.img)")
	c.Flags().StringVar(&program, "program", "", "the program's path in a package or root")
	return c
}

func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return usagef("say %s: see `%s --help`", what, cmd.CommandPath())
		}
		if len(args) > n {
			return usagef("%q is one argument too many: see `%s --help`", args[n], cmd.CommandPath())
		}
		return nil
	}
}

func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintln(a.err, "pack:", oneLine(fmt.Sprintf(format, args...)))
	}
}

func (a *app) options() (*bake.Options, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	if err := image.OneOf("--compress", a.compress, erofs.Ways); err != nil {
		return nil, usagef("%w", err)
	}
	o := &bake.Options{Kernel: a.kernel, Cache: cache, Compress: erofs.Compression(a.compress), Log: a.say}
	if a.noHost {
		o.Host = tree.New()
	}
	return o, nil
}

// cacheDir is where packages and images of `pack run` are kept.
func cacheDir() (string, error) {
	if d := os.Getenv("KILN_CACHE"); d != "" {
		return d, nil
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("there is no folder for pack's cache: set HOME or KILN_CACHE")
	}
	return filepath.Join(d, "kiln"), nil
}

// build bakes what ref names and writes it.
func (a *app) build(ctx context.Context, ref, program, output string) error {
	defer withoutSIGPIPE()()
	ctx, done := a.interruptible(ctx)
	defer done()
	o, err := a.options()
	if err != nil {
		return err
	}
	if o.Kernel, err = bake.FindKernel(o.Kernel); err != nil {
		return err // before any work is done
	}
	img, err := a.gather(ctx, ref, program, o)
	if err != nil {
		return err
	}
	if output == "" {
		output = img.Config.Name + ".img"
	}
	boot, err := bake.Write(ctx, output, img, o)
	if err != nil {
		return err
	}
	size := int64(0)
	if fi, err := os.Stat(output); err == nil {
		size = fi.Size()
	}
	a.say("%s: %s, boots %s and needs %s of memory", output, megabytes(size), programNames(img.Config), megabytes(int64(boot.MinRAM)))
	return nil
}

// programNames says what an image boots.
func programNames(c *image.Config) string {
	if len(c.Programs) == 0 {
		return c.Program
	}
	names := make([]string, len(c.Programs))
	for i := range c.Programs {
		names[i] = c.Programs[i].Name
	}
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// gather finds out what a reference means.
func (a *app) gather(ctx context.Context, ref, program string, o *bake.Options) (*bake.Image, error) {
	if name, ok := strings.CutPrefix(ref, "deb:"); ok {
		return bake.FromPackage(ctx, name, program, o)
	}
	if name, ok := strings.CutPrefix(ref, "oci:"); ok {
		return bake.FromOCI(ctx, name, program, o)
	}
	// What says by itself which program it is about is not baked for another.
	whole := func(img func() (*bake.Image, error)) (*bake.Image, error) {
		if program != "" {
			return nil, usagef("--program chooses among the files of a package, a container image or an unpacked root, and %s is none: leave it out (`pack run --init` runs another program of an image)", ref)
		}
		return img()
	}
	if !strings.Contains(ref, "/") {
		m, err := a.cat.Load(ref)
		if err == nil {
			return whole(func() (*bake.Image, error) { return bake.FromManifest(ctx, m, o) })
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	fi, err := os.Stat(ref)
	switch {
	case err == nil && fi.IsDir():
		fromDir := func() (*bake.Image, error) { return bake.FromDir(ctx, ref, program, o) }
		if _, err := os.Stat(filepath.Join(ref, manifest.FileName)); err == nil {
			return whole(fromDir)
		}
		return fromDir()
	case err == nil:
		return whole(func() (*bake.Image, error) { return fromProgram(ctx, ref, o) })
	case strings.Contains(ref, "/"):
		return nil, usagef("there is no file %s: give the path of a program or a folder, or a name that `pack ls` lists", ref)
	}
	if p := inPath(ref); p != "" {
		return whole(func() (*bake.Image, error) { return fromProgram(ctx, p, o) })
	}
	return nil, a.unknown(ref)
}

// inPath looks in PATH and where system programs are besides.
func inPath(name string) string {
	for _, d := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/sbin", "/sbin") {
		p := filepath.Join(d, name)
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return p
		}
	}
	return ""
}

func (a *app) unknown(name string) error {
	hint := "`pack ls` lists the catalogue"
	words := a.cat.Names()
	for _, c := range a.root().Commands() {
		if !c.Hidden {
			words = append(words, c.Name())
		}
	}
	if c := catalogue.Closest(name, words); c != "" {
		hint = fmt.Sprintf("did you mean %s? %s", c, hint)
	}
	return usagef("%q is no entry of the catalogue, no command and no program in PATH; %s", name, hint)
}

// megabytes writes a size for people.
func megabytes(n int64) string {
	if n < 10<<20 {
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d MB", (n+1<<20-1)>>20)
}
