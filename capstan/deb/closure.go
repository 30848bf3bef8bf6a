package deb

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kiln/capstan/scratch"
)

// Closure is the files of packages and of everything that they depend on, as apt would
// install them on an empty machine: versions, alternatives and virtual packages are apt's
// choice. What the cache lacks is fetched.
func (f *Fetcher) Closure(ctx context.Context, names []string) ([]string, error) {
	for _, n := range names {
		if !validName.MatchString(n) {
			return nil, fmt.Errorf("%q cannot be the name of a Debian package (small letters, digits, + - .)", n)
		}
	}
	names = slices.Clone(names)
	slices.Sort(names)
	// As with single packages, apt's answer holds a day, and longer without apt.
	list := filepath.Join(f.Dir, fmt.Sprintf("closure-%.16x", sha256.Sum256([]byte(strings.Join(names, " ")))))
	var old []string
	if b, err := os.ReadFile(list); err == nil {
		old = f.files(strings.Split(string(b), "\n"))
	}
	if fi, err := os.Stat(list); err == nil && old != nil && time.Since(fi.ModTime()) < freshFor {
		return old, nil
	}
	all, err := f.resolve(ctx, names)
	if err != nil && old == nil && !f.own && !errors.Is(err, ErrNoApt) {
		if uerr := f.update(ctx); uerr != nil {
			return nil, fmt.Errorf("%w, and new package lists cannot be had either: %w", err, uerr)
		}
		all, err = f.resolve(ctx, names)
	}
	if err != nil {
		if old != nil {
			return old, nil
		}
		return nil, err
	}
	files := f.files(all)
	if files == nil {
		return nil, fmt.Errorf("apt-get did not fetch all of %s", strings.Join(all, ", "))
	}
	return files, os.WriteFile(list, []byte(strings.Join(all, "\n")), 0o644)
}

// FetchAll gets packages and everything that they depend on in one go, which is quicker than
// one after another where most of them are needed. It does not unpack them.
func (f *Fetcher) FetchAll(ctx context.Context, names []string) error {
	files, err := f.Closure(ctx, names)
	if err != nil {
		return err
	}
	f.resolved = map[string]string{}
	for _, file := range files {
		name, _, _ := strings.Cut(filepath.Base(file), "_")
		f.resolved[name] = file
	}
	return nil
}

// files are where package files are, nil if one is not there.
func (f *Fetcher) files(bases []string) (out []string) {
	for _, base := range bases {
		file := f.archive(base)
		if file == "" {
			return nil
		}
		out = append(out, file)
	}
	return out
}

// archive is where a package file is already, "" if it is not. apt writes the colon of an
// epoch as %3a.
func (f *Fetcher) archive(base string) string {
	for _, file := range []string{filepath.Join(f.Dir, base),
		filepath.Join("/var/cache/apt/archives", strings.ReplaceAll(base, ":", "%3a"))} {
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() {
			return file
		}
	}
	return ""
}

// resolve asks apt for the names of the files, and fetches in one go what is missing.
func (f *Fetcher) resolve(ctx context.Context, names []string) ([]string, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, ErrNoApt
	}
	if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("the package cache cannot be made: %w", err)
	}
	dir, done, err := scratch.Make(f.Dir, ".fetch-")
	if err != nil {
		return nil, fmt.Errorf("the package cache cannot be written: %w", err)
	}
	defer done()
	ask := append(slices.Clone(emptyMachine), "-o", "Dir::Cache::archives="+dir, "install", "--print-uris", "--no-install-recommends", "-y")
	out, err := f.apt(ctx, downloadTimeout, dir, append(ask, names...)...) // it reads all package lists
	if err != nil {
		return nil, err
	}
	all := printed(out)
	if len(all) == 0 {
		return nil, fmt.Errorf("apt-get has no files to download for %s", strings.Join(names, ", "))
	}
	var missing []string
	for _, base := range all {
		if f.archive(base) == "" {
			missing = append(missing, version(base))
		}
	}
	if len(missing) > 0 {
		if f.Log != nil {
			f.Log("fetching %d packages for %s", len(missing), strings.Join(names, ", "))
		}
		if _, err := f.apt(ctx, downloadTimeout, dir, append([]string{"download"}, missing...)...); err != nil {
			return nil, err
		}
		got, _ := filepath.Glob(filepath.Join(dir, "*.deb"))
		for _, file := range got {
			base, err := url.PathUnescape(filepath.Base(file))
			if err == nil {
				err = os.Rename(file, filepath.Join(f.Dir, base))
			}
			if err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// printed are the files that apt-get --print-uris names, a line each: 'URI' FILE SIZE HASH.
func printed(out string) (files []string) {
	for _, line := range strings.Split(out, "\n") {
		if fields := strings.Fields(line); len(fields) >= 3 && strings.HasPrefix(line, "'") {
			base, err := url.PathUnescape(fields[1])
			if err == nil && !strings.Contains(base, "/") && strings.HasSuffix(base, ".deb") {
				files = append(files, base)
			}
		}
	}
	return files
}
