// Command httpd is a stock Go web server that fetches its own pages, in parallel and
// by TCP over the loopback, and says what it got. With -serve ADDR it only serves.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"
)

func main() {
	serve := flag.String("serve", "", "serve on this address and do nothing else")
	flag.Parse()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello from %s\n", r.URL.Path) })
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1<<20)) })
	if *serve != "" {
		fmt.Fprintln(os.Stderr, http.ListenAndServe(*serve, mux))
		os.Exit(1)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go http.Serve(l, mux)
	var wg sync.WaitGroup
	var mu sync.Mutex
	good, bytes := 0, 0
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range 10 {
				path := fmt.Sprintf("/%d/%d", i, j)
				if j == 9 {
					path = "/big"
				}
				resp, err := http.Get("http://" + l.Addr().String() + path)
				if err != nil {
					fmt.Println(err)
					continue
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				mu.Lock()
				good++
				bytes += len(b)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	runtime.GC()
	start := time.Now()
	time.Sleep(10 * time.Millisecond)
	fmt.Printf("%d pages, %d bytes, slept %v, GCs %v\n", good, bytes, time.Since(start) >= 10*time.Millisecond, gcs() > 0)
}

func gcs() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumGC
}
