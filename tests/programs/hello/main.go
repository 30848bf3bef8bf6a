// Command hello says hello from a Go program: goroutines on several threads, a
// collection, a timer.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

func main() {
	fmt.Println(strings.Join(append([]string{"hello"}, os.Args[1:]...), " "))
	var wg sync.WaitGroup
	sums := make([]int, 8)
	for i := range sums {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range 100000 {
				sums[i] += j % (i + 1)
			}
			_ = make([]byte, 1<<20)
		}()
	}
	wg.Wait()
	runtime.GC()
	time.Sleep(time.Millisecond)
	fmt.Println(sums)
}
