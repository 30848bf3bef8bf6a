package suites

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"kiln/tests/vmtest"
)

// packaged are the suites of docs/abi.md: the folder, what it is, the Linux that was recorded.
var packaged = []struct{ dir, name, linux string }{
	{"gostd", "Go 1.26's standard library", "the host's kernel"},
	{"python", "Debian's libpython3.11-testsuite", "the host's kernel"},
	{"busybox", "Debian's busybox-static, a case an applet", "the host's kernel"},
	{"stressng", "Debian's stress-ng", "the host's kernel, the stressors that change the machine on Debian's 6.1 in QEMU"},
}

// Table is the part of docs/abi.md about the suites, from what is in the tree.
func Table() (string, error) {
	top, err := vmtest.Root()
	if err != nil {
		return "", err
	}
	var rows, why strings.Builder
	for _, p := range packaged {
		dir := filepath.Join(top, "tests", "suites", p.dir)
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			continue
		}
		units, err := Read(dir)
		if err != nil {
			return "", err
		}
		var sum Sums
		for _, u := range units {
			fmt.Fprintf(&rows, "| %s | %s | %d | %d | %d | %d |\n", p.dir, u.Unit, u.Executed, u.ExecutedHere, u.Passed, u.PassedHere)
			sum.Executed += u.Executed
			sum.ExecutedHere += u.ExecutedHere
			sum.Passed += u.Passed
			sum.PassedHere += u.PassedHere
			for _, d := range u.Differences {
				now := ""
				if d.Now {
					now = ", now and then"
				}
				fmt.Fprintf(&why, "| %s | %s | %s | %s%s | %s |\n", p.dir, u.Unit, strings.ReplaceAll(d.ID, "|", "\\|"), d.Outcome, now, strings.ReplaceAll(d.Reason, "|", "\\|"))
			}
		}
		fmt.Fprintf(&rows, "| **%s** | %s; recorded on %s | %d | %d (%s) | %d | %d (%s) |\n", p.dir, p.name, p.linux,
			sum.Executed, sum.ExecutedHere, percent(sum.ExecutedHere, sum.Executed), sum.Passed, sum.PassedHere, percent(sum.PassedHere, sum.Passed))
	}
	text := "## Suites of others\n\nWhat Linux executes and passes of suites that others have written, and what of that this kernel executes and passes\n" +
		"(tests/suites; a skipped test is not executed). Every one runs on the kernel as a process, some in `make test`, all in `make accept`.\n\n" +
		"Not among them: posixtestsuite, of which Debian packages a report of its build alone; busybox's own tests, which are not\n" +
		"packaged (tests/suites/busybox/cases.sh has a case for each applet); the stressors binderfs, bind-mount, copy-file, dirmany,\n" +
		"mlockmany, oom-pipe, smi, sysinval and watchdog, which have not been recorded.\n\n" +
		"| suite | part | executed on Linux | executed here | passed on Linux | passed here |\n| --- | --- | ---: | ---: | ---: | ---: |\n" + rows.String()
	if why.Len() > 0 {
		text += "\nThe differences:\n\n| suite | part | test | here | reason |\n| --- | --- | --- | --- | --- |\n" + why.String()
	}
	return text, nil
}

func percent(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", float64(n*1000/of)/10)
}
