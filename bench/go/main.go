// The workloads in Go: `peer WORKLOAD N` prints the nanoseconds (or bytes) of one operation.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: peer WORKLOAD N")
		os.Exit(2)
	}
	n, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	workloads := map[string]func(int) int64{
		"spawn-join":   spawnJoin,
		"spawn-all":    spawnAll,
		"yield":        func(n int) int64 { return yielding(2, n) },
		"yield-1000":   func(n int) int64 { return yielding(1000, n) },
		"ping-pong":    func(n int) int64 { return pingPong(n, false) },
		"chan-1-1":     func(n int) int64 { return channel(1, 0, n) },
		"chan-1-1-buf": func(n int) int64 { return channel(1, 1024, n) },
		"chan-4-4":     func(n int) int64 { return channel(4, 0, n) },
		"chan-4-4-buf": func(n int) int64 { return channel(4, 1024, n) },
		"mutex":        func(n int) int64 { return mutex(1, n) },
		"mutex-8":      func(n int) int64 { return mutex(8, n) },
		"skynet":       skynet,
		"sleep":        sleep,
		"late-p50":     func(n int) int64 { return late(50, n) },
		"late-p99":     func(n int) int64 { return late(99, n) },
		"timeout":      timeout,
		"echo":         echo,
		"handoff":      handoff,
		"locked":       func(n int) int64 { return pingPong(n, true) },
		"hogs-p50":     func(n int) int64 { return hogs(0, n) },
		"hogs-p99":     func(n int) int64 { return hogs(1, n) },
		"parked":       parked,
	}
	run, ok := workloads[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "no such workload")
		os.Exit(2)
	}
	fmt.Println(float64(run(n)) / float64(n))
}

func nanos(start time.Time) int64 { return time.Since(start).Nanoseconds() }

// A goroutine and the channel that gives its result: what a JoinHandle is.
func spawnJoin(n int) int64 {
	start := time.Now()
	for i := 0; i < n; i++ {
		c := make(chan int, 1)
		go func() { c <- i }()
		<-c
	}
	return nanos(start)
}

func spawnAll(n int) int64 {
	start := time.Now()
	var wg sync.WaitGroup
	results := make([]int, n)
	wg.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			results[i] = i
			wg.Done()
		}()
	}
	wg.Wait()
	return nanos(start)
}

func yielding(goroutines, n int) int64 {
	start := time.Now()
	var wg sync.WaitGroup
	for g := 0; g < goroutines; g++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; i < n/goroutines; i++ {
				runtime.Gosched()
			}
		}()
	}
	wg.Wait()
	return nanos(start)
}

func pingPong(n int, locked bool) int64 {
	ping, pong := make(chan int), make(chan int)
	go func() {
		if locked {
			runtime.LockOSThread()
		}
		for i := range ping {
			pong <- i
		}
	}()
	start := time.Now()
	for i := 0; i < n; i++ {
		ping <- i
		<-pong
	}
	total := nanos(start)
	close(ping)
	return total
}

func channel(pairs, buffer, n int) int64 {
	c := make(chan int, buffer)
	var senders, receivers sync.WaitGroup
	start := time.Now()
	for p := 0; p < pairs; p++ {
		senders.Add(1)
		receivers.Add(1)
		go func() {
			defer senders.Done()
			for i := 0; i < n/pairs; i++ {
				c <- i
			}
		}()
		go func() {
			defer receivers.Done()
			sum := 0
			for i := range c {
				sum += i
			}
			runtime.KeepAlive(sum)
		}()
	}
	senders.Wait()
	close(c)
	receivers.Wait()
	return nanos(start)
}

func mutex(goroutines, n int) int64 {
	var m sync.Mutex
	var wg sync.WaitGroup
	count := 0
	start := time.Now()
	for g := 0; g < goroutines; g++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; i < n/goroutines; i++ {
				m.Lock()
				count++
				m.Unlock()
			}
		}()
	}
	wg.Wait()
	return nanos(start)
}

func skynet(n int) int64 {
	var node func(c chan int, number, size int)
	node = func(c chan int, number, size int) {
		if size == 1 {
			c <- number
			return
		}
		children := make(chan int)
		for i := 0; i < 10; i++ {
			go node(children, number+i*(size/10), size/10)
		}
		sum := 0
		for i := 0; i < 10; i++ {
			sum += <-children
		}
		c <- sum
	}
	size := 1
	for size*10 <= n {
		size *= 10
	}
	start := time.Now()
	c := make(chan int)
	go node(c, 0, size)
	if <-c != size*(size-1)/2 {
		panic("wrong sum")
	}
	return nanos(start)
}

func sleep(n int) int64 {
	start := time.Now()
	var wg sync.WaitGroup
	for g := 0; g < 10000; g++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; i < n/10000; i++ {
				time.Sleep(time.Millisecond)
			}
		}()
	}
	wg.Wait()
	return nanos(start)
}

func late(percent, n int) int64 {
	const nap = 100 * time.Microsecond
	late := make([]int64, 2000)
	for i := range late {
		start := time.Now()
		time.Sleep(nap)
		late[i] = int64(time.Since(start) - nap)
	}
	slices.Sort(late)
	return late[len(late)*percent/100] * int64(n)
}

func timeout(n int) int64 {
	c := make(chan int)
	go func() {
		for i := 0; i < n; i++ {
			c <- i
		}
	}()
	start := time.Now()
	for i := 0; i < n; i++ {
		select {
		case <-c:
		case <-time.After(5 * time.Second):
			panic("unreachable")
		}
	}
	return nanos(start)
}

func echo(n int) int64 {
	const connections = 50
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				buffer := make([]byte, 64)
				for {
					if _, err := io.ReadFull(conn, buffer); err != nil {
						return
					}
					if _, err := conn.Write(buffer); err != nil {
						return
					}
				}
			}()
		}
	}()
	var clients []net.Conn
	for i := 0; i < connections; i++ {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			panic(err)
		}
		clients = append(clients, conn)
	}
	var wg sync.WaitGroup
	start := time.Now()
	for _, conn := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			buffer := make([]byte, 64)
			for i := 0; i < n/connections; i++ {
				if _, err := conn.Write(buffer); err != nil {
					panic(err)
				}
				if _, err := io.ReadFull(conn, buffer); err != nil {
					panic(err)
				}
			}
		}()
	}
	wg.Wait()
	return nanos(start)
}

func resident() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		panic(err)
	}
	return pages * 4096
}

func parked(n int) int64 {
	hold := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Add(n)
	before := resident()
	for i := 0; i < n; i++ {
		go func() {
			waiting.Done()
			<-hold
		}()
	}
	waiting.Wait()
	time.Sleep(50 * time.Millisecond)
	return resident() - before
}

// How soon another goroutine runs on the only P when one is in a system call that blocks.
func handoff(n int) int64 {
	runtime.GOMAXPROCS(1)
	var took []int64
	for range 300 {
		var pipe [2]int
		if err := syscall.Pipe(pipe[:]); err != nil {
			panic(err)
		}
		var entered time.Time
		done := make(chan bool)
		go func() {
			entered = time.Now()
			syscall.Read(pipe[0], make([]byte, 1))
			done <- true
		}()
		runtime.Gosched()
		took = append(took, nanos(entered))
		syscall.Write(pipe[1], []byte{1})
		<-done
		syscall.Close(pipe[0])
		syscall.Close(pipe[1])
	}
	slices.Sort(took)
	return took[len(took)/2] * int64(n)
}

func hogs(which, n int) int64 {
	runtime.GOMAXPROCS(2)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		buffer := make([]byte, 64)
		for {
			if _, err := io.ReadFull(conn, buffer); err != nil {
				return
			}
			if _, err := conn.Write(buffer); err != nil {
				return
			}
		}
	}()
	for range 8 {
		go func() {
			for {
			}
		}()
	}
	output, err := exec.Command(os.Getenv("GORT_BENCH"), "client", listener.Addr().String()).Output()
	if err != nil {
		panic(err)
	}
	ns, err := strconv.ParseInt(strings.Fields(string(output))[which], 10, 64)
	if err != nil {
		panic(err)
	}
	return ns * int64(n)
}
