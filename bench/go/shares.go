// Parties that can always run, side by side: how much each gets done. As src/peers/shares.rs.
package main

import (
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type work struct{ done atomic.Int64 }

var sink atomic.Int64

//go:noinline
func spin(n int) int {
	a := 0
	for i := range n {
		a ^= i
	}
	return a
}

func (w *work) unit() {
	if spin(1000) == -1 {
		sink.Add(1)
	}
	w.done.Add(1)
}

// What each of the parties (names with commas between) gets done in so many milliseconds.
func shares(parties string, millis int) []float64 {
	names := strings.Split(parties, ",")
	all := make([]*work, len(names))
	for i, name := range names {
		all[i] = new(work)
		party(name, all[i])
	}
	time.Sleep(time.Second)
	before := make([]int64, len(all))
	for i, w := range all {
		before[i] = w.done.Load()
	}
	time.Sleep(time.Duration(millis) * time.Millisecond)
	figures := make([]float64, len(all))
	for i, w := range all {
		figures[i] = float64(w.done.Load() - before[i])
	}
	return figures
}

func party(name string, w *work) {
	switch name {
	case "hog":
		go func() {
			for {
				w.unit()
			}
		}()
	case "yielder":
		go func() {
			for {
				w.unit()
				runtime.Gosched()
			}
		}()
	case "pair":
		ring(2, 0, w)
	case "pair-buffered":
		ring(2, 1, w)
	case "ring":
		ring(8, 1, w)
	case "spawner":
		go func() {
			for {
				done := make(chan struct{})
				go func() {
					w.unit()
					close(done)
				}()
				<-done
			}
		}()
	case "mutex":
		m := new(sync.Mutex)
		for range 2 {
			go func() {
				for {
					m.Lock()
					w.unit()
					m.Unlock()
				}
			}()
		}
	case "socket":
		ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			fail(err)
		}
		for i, fd := range ends {
			file := os.NewFile(uintptr(fd), "socket")
			conn, err := net.FileConn(file)
			if err != nil {
				fail(err)
			}
			file.Close()
			if i == 0 {
				conn.Write([]byte{0})
			}
			go func() {
				b := make([]byte, 1)
				for {
					if _, err := conn.Read(b); err != nil {
						return
					}
					w.unit()
					conn.Write(b)
				}
			}()
		}
	default:
		fail("no such party")
	}
}

// n goroutines that hand a token round.
func ring(n, capacity int, w *work) {
	links := make([]chan struct{}, n)
	for i := range links {
		links[i] = make(chan struct{}, capacity)
	}
	for i := range n {
		go func() {
			to := links[(i+1)%n]
			if i == 0 {
				to <- struct{}{}
			}
			for range links[i] {
				w.unit()
				to <- struct{}{}
			}
		}()
	}
}
