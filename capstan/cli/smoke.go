package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"kiln/capstan/smoke"
)

// smokeCmd tries entries of the catalogue. It is for those who work on Kiln, and so not
// among the commands that --help lists.
func (a *app) smokeCmd() *cobra.Command {
	var runArgs []string
	var limit time.Duration
	c := &cobra.Command{
		Use: "smoke [NAME...]", Short: "Run the smoke tests of catalogue entries", Hidden: true,
		RunE: func(cmd *cobra.Command, names []string) error {
			if len(names) == 0 {
				names = a.cat.Names()
			}
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			r := &smoke.Runner{Pack: exe, Args: runArgs, Limit: limit}
			if a.kernel != "" {
				r.Args = append(r.Args, "--kernel", a.kernel)
			}
			if a.noHost {
				r.Args = append(r.Args, "--no-host")
			}
			passed, failed := 0, 0
			for _, name := range names {
				m, err := a.cat.Load(name)
				if err != nil {
					return a.unknown(name)
				}
				for i := range m.Smoke {
					start := time.Now()
					word := "ok  "
					err := r.Run(cmd.Context(), name, &m.Smoke[i])
					if err != nil {
						word, failed = "FAIL", failed+1
					} else {
						passed++
					}
					fmt.Fprintf(a.out, "%s %s: %s (%.1f s)\n", word, name, m.Smoke[i].Name, time.Since(start).Seconds())
					if err != nil {
						fmt.Fprintln(a.out, err)
					}
				}
			}
			fmt.Fprintf(a.out, "%d passed, %d failed\n", passed, failed)
			if failed > 0 {
				return fmt.Errorf("%d of %d smoke tests failed", failed, passed+failed)
			}
			return nil
		},
	}
	c.Flags().StringArrayVar(&runArgs, "run-arg", nil, "one more argument for pack run")
	c.Flags().DurationVar(&limit, "limit", 0, "time for one test (0: 2 minutes, and what its steps wait besides)")
	return c
}
