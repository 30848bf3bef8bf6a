// Demo is `make run`: it bakes nginx, boots it, fetches its page over HTTP and shows
// it. The machine then runs until it is interrupted, or with CI=true is shut down at
// once; the exit status is that of the program in it.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"kiln/tests/vmtest"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "make run:", err)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		os.Exit(1)
	}
}

func run() error {
	pack, err := vmtest.Pack()
	if err != nil {
		return err
	}
	const img = "build/nginx.img"
	bake := exec.Command(pack, "nginx", "-o", img)
	bake.Stdout, bake.Stderr = os.Stdout, os.Stderr
	if err := bake.Run(); err != nil {
		return fmt.Errorf("pack nginx: %w", err)
	}
	port, err := vmtest.FreePort(8080)
	if err != nil {
		return err
	}
	m := exec.Command(pack, "run", img, "-p", fmt.Sprintf("%d:80", port))
	m.Stdout, m.Stderr = os.Stdout, os.Stderr
	if err := m.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- m.Wait() }()
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	page, err := fetch(url, ended)
	if err != nil {
		m.Process.Signal(syscall.SIGTERM)
		return err
	}
	fmt.Printf("\n%s answers:\n\n%s\n", url, page)
	if os.Getenv("CI") != "" {
		m.Process.Signal(syscall.SIGTERM)
	} else {
		fmt.Println("nginx runs; press Ctrl-C to stop the machine.")
		// The terminal sends the interrupt to pack too; this process only waits.
		signal.Ignore(os.Interrupt)
	}
	return <-ended
}

func fetch(url string, ended <-chan error) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second}
	limit := time.Now().Add(2 * time.Minute)
	for {
		resp, err := client.Get(url)
		if err == nil {
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err == nil && resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
			return string(b), err
		}
		select {
		case err := <-ended:
			return "", fmt.Errorf("the machine ended before it answered: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(limit) {
			return "", fmt.Errorf("no answer in two minutes: %w", err)
		}
	}
}
