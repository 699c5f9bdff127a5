// The workloads in Go: `peer child WORKLOAD N` prints its figures, `peer serve KIND N` serves until standard input ends.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 4 {
		fail("usage: peer child WORKLOAD N | peer serve KIND N")
	}
	n, err := strconv.Atoi(os.Args[3])
	if err != nil {
		fail(err)
	}
	what := os.Args[2]
	if os.Args[1] == "serve" {
		serve(what)
		return
	}
	if parties, ok := strings.CutPrefix(what, "shares:"); ok {
		for _, figure := range shares(parties, n) {
			fmt.Print(figure, " ")
		}
		fmt.Println()
		return
	}
	each := func(run func(int) float64) func(int) []float64 {
		return func(n int) []float64 { return []float64{run(n) / float64(n)} }
	}
	workloads := map[string]func(int) []float64{
		"spawn-join":     each(spawnJoin),
		"spawn-1":        each(spawnAll),
		"spawn-8":        each(spawnFromEight),
		"yield-2":        each(func(n int) float64 { return yielding(2, n) }),
		"yield-1000":     each(func(n int) float64 { return yielding(1000, n) }),
		"ping-pong":      each(func(n int) float64 { return pingPong(n, false) }),
		"chan-1-1":       each(func(n int) float64 { return channel(1, 1, 0, n) }),
		"chan-4-4":       each(func(n int) float64 { return channel(4, 4, 0, n) }),
		"chan-1-1-buf":   each(func(n int) float64 { return channel(1, 1, 1024, n) }),
		"chan-4-4-buf":   each(func(n int) float64 { return channel(4, 4, 1024, n) }),
		"chan-1-4-buf":   each(func(n int) float64 { return channel(1, 4, 1024, n) }),
		"select-2-ready": each(select2Ready),
		"select-8-ready": each(select8Ready),
		"select-2":       each(select2),
		"select-8":       each(select8),
		"timeout":        each(timeout),
		"mutex":          each(func(n int) float64 { return mutex(1, n) }),
		"mutex-8":        each(func(n int) float64 { return mutex(8, n) }),
		"rwlock-8":       each(rwlock),
		"skynet":         skynet,
		"fib":            forkJoin,
		"sort":           each(sortAll),
		"syscall":        getppid,
		"sleepers-1m":    each(sleepOnce),
		"sleepers-10k":   sleepInTurn,
		"late":           late,
		"handoff":        handoff,
		"locked":         each(func(n int) float64 { return pingPong(n, true) }),
		"parked":         parked,
	}
	run, ok := workloads[what]
	if !ok {
		fail("no such workload")
	}
	for _, figure := range run(n) {
		fmt.Print(figure, " ")
	}
	fmt.Println()
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}

func nanos(start time.Time) float64 { return float64(time.Since(start)) }

// The CPU that this process has used, in nanoseconds.
func cpu() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return float64(usage.Utime.Nano() + usage.Stime.Nano())
}

func percentile(values []int64, percent int) float64 {
	slices.Sort(values)
	return float64(values[min(len(values)*percent/100, len(values)-1)])
}

func untilTold() { io.Copy(io.Discard, os.Stdin) }

// A goroutine and the channel that gives its result: what a JoinHandle is.
func spawnJoin(n int) float64 {
	start := time.Now()
	for i := range n {
		c := make(chan int, 1)
		go func() { c <- i }()
		<-c
	}
	return nanos(start)
}

func spawnAll(n int) float64 {
	start := time.Now()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { runtime.KeepAlive(i) })
	}
	all.Wait()
	return nanos(start)
}

func spawnFromEight(n int) float64 {
	start := time.Now()
	var spawners sync.WaitGroup
	for range 8 {
		spawners.Go(func() { spawnAll(n / 8) })
	}
	spawners.Wait()
	return nanos(start)
}

func yielding(goroutines, n int) float64 {
	start := time.Now()
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range n / goroutines {
				runtime.Gosched()
			}
		})
	}
	all.Wait()
	return nanos(start)
}

func pingPong(n int, locked bool) float64 {
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
	for i := range n {
		ping <- i
		<-pong
	}
	total := nanos(start)
	close(ping)
	return total
}

func channel(senders, receivers, buffer, n int) float64 {
	c := make(chan int, buffer)
	var sending, receiving sync.WaitGroup
	start := time.Now()
	for range senders {
		sending.Go(func() {
			for i := range n / senders {
				c <- i
			}
		})
	}
	for range receivers {
		receiving.Go(func() {
			sum := 0
			for i := range c {
				sum += i
			}
			runtime.KeepAlive(sum)
		})
	}
	sending.Wait()
	close(c)
	receiving.Wait()
	return nanos(start)
}

func channels(n, buffer int) []chan int {
	all := make([]chan int, n)
	for i := range all {
		all[i] = make(chan int, buffer)
	}
	return all
}

func select2Ready(n int) float64 {
	c := channels(2, 1)
	a, b := c[0], c[1]
	a <- 0
	b <- 0
	start := time.Now()
	for i := range n {
		select {
		case <-a:
			a <- i
		case <-b:
			b <- i
		}
	}
	return nanos(start)
}

func receiveOf8(c []chan int) int {
	select {
	case <-c[0]:
		return 0
	case <-c[1]:
		return 1
	case <-c[2]:
		return 2
	case <-c[3]:
		return 3
	case <-c[4]:
		return 4
	case <-c[5]:
		return 5
	case <-c[6]:
		return 6
	case <-c[7]:
		return 7
	}
}

func select8Ready(n int) float64 {
	c := channels(8, 1)
	for i := range c {
		c[i] <- 0
	}
	start := time.Now()
	for i := range n {
		c[receiveOf8(c)] <- i
	}
	return nanos(start)
}

// One that sends to each of the channels in turn.
func sendTo(c []chan int, n int) {
	for i := range n {
		c[i%len(c)] <- i
	}
}

func select2(n int) float64 {
	c := channels(2, 0)
	a, b := c[0], c[1]
	start := time.Now()
	go sendTo(c, n)
	for range n {
		select {
		case <-a:
		case <-b:
		}
	}
	return nanos(start)
}

func select8(n int) float64 {
	c := channels(8, 0)
	start := time.Now()
	go sendTo(c, n)
	for range n {
		receiveOf8(c)
	}
	return nanos(start)
}

func timeout(n int) float64 {
	c := make(chan int)
	go func() {
		for i := range n {
			c <- i
		}
	}()
	start := time.Now()
	for range n {
		select {
		case <-c:
		case <-time.After(5 * time.Second):
			panic("unreachable")
		}
	}
	return nanos(start)
}

func together(goroutines, n int, f func(int)) float64 {
	start := time.Now()
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for i := range n / goroutines {
				f(i)
			}
		})
	}
	all.Wait()
	return nanos(start)
}

func mutex(goroutines, n int) float64 {
	var m sync.Mutex
	count := 0
	return together(goroutines, n, func(int) {
		m.Lock()
		count++
		m.Unlock()
	})
}

func rwlock(n int) float64 {
	var m sync.RWMutex
	count := 0
	return together(8, n, func(i int) {
		if i%20 == 0 {
			m.Lock()
			count++
			m.Unlock()
		} else {
			m.RLock()
			runtime.KeepAlive(count)
			m.RUnlock()
		}
	})
}

func skynet(n int) []float64 {
	var node func(c chan int, number, size int)
	node = func(c chan int, number, size int) {
		if size == 1 {
			c <- number
			return
		}
		children := make(chan int)
		for i := range 10 {
			go node(children, number+i*(size/10), size/10)
		}
		sum := 0
		for range 10 {
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
	return []float64{nanos(start) / float64(size)}
}

func fib(n int) int {
	if n < 2 {
		return n
	}
	var other int
	var done sync.WaitGroup
	done.Go(func() { other = fib(n - 1) })
	own := fib(n - 2)
	done.Wait()
	return own + other
}

func forkJoin(n int) []float64 {
	// The number whose computation forks about `n` times.
	k, a, b := 1, 1, 1
	for a+b-1 <= n {
		a, b = b, a+b
		k++
	}
	start := time.Now()
	runtime.KeepAlive(fib(k))
	return []float64{nanos(start) / float64(b-1)}
}

func partition(v []uint64) int {
	last := len(v) - 1
	v[len(v)/2], v[last] = v[last], v[len(v)/2]
	pivot, at := v[last], 0
	for i := range last {
		if v[i] < pivot {
			v[i], v[at] = v[at], v[i]
			at++
		}
	}
	v[at], v[last] = v[last], v[at]
	return at
}

func quickSort(v []uint64) {
	if len(v) <= 2048 {
		slices.Sort(v)
		return
	}
	at := partition(v)
	var done sync.WaitGroup
	done.Go(func() { quickSort(v[:at]) })
	quickSort(v[at+1:])
	done.Wait()
}

func sortAll(n int) float64 {
	v := make([]uint64, n)
	x := uint64(0x9E3779B97F4A7C15)
	for i := range v {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		v[i] = x
	}
	start := time.Now()
	quickSort(v)
	total := nanos(start)
	if !slices.IsSorted(v) {
		panic("not sorted")
	}
	return total
}

func getppid(n int) []float64 {
	more := make([]float64, 5)
	for i := range more {
		start := time.Now()
		for range n {
			syscall.Syscall(syscall.SYS_GETPPID, 0, 0, 0)
		}
		through := nanos(start)
		start = time.Now()
		for range n {
			syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0)
		}
		more[i] = through - nanos(start)
	}
	slices.Sort(more)
	return []float64{max(more[2]/float64(n), 0)}
}

func sleepOnce(n int) float64 {
	start := cpu()
	var all sync.WaitGroup
	for range n {
		all.Go(func() { time.Sleep(3 * time.Second) })
	}
	all.Wait()
	return cpu() - start
}

func sleepInTurn(n int) []float64 {
	const nap = 10 * time.Millisecond
	start, used := time.Now(), cpu()
	all := make([][]int64, n)
	var done sync.WaitGroup
	for i := range all {
		done.Go(func() {
			for time.Since(start) < 3*time.Second {
				before := time.Now()
				time.Sleep(nap)
				all[i] = append(all[i], int64(time.Since(before)-nap))
			}
		})
	}
	done.Wait()
	late := slices.Concat(all...)
	used = cpu() - used
	return []float64{used / float64(len(late)), percentile(late, 50), percentile(late, 99)}
}

func late(n int) []float64 {
	const nap = 100 * time.Microsecond
	late := make([]int64, n)
	for i := range late {
		start := time.Now()
		time.Sleep(nap)
		late[i] = int64(time.Since(start) - nap)
	}
	return []float64{percentile(late, 50), percentile(late, 99)}
}

// How soon another goroutine runs on the only P when one is in a system call that blocks.
func handoff(n int) []float64 {
	var took []int64
	for range n {
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
		took = append(took, int64(time.Since(entered)))
		syscall.Write(pipe[1], []byte{1})
		<-done
		syscall.Close(pipe[0])
		syscall.Close(pipe[1])
	}
	return []float64{percentile(took, 50)}
}

// The runner looks at our memory and at what wakes us.
func parked(n int) []float64 {
	hold := make(chan struct{})
	start := time.Now()
	var waiting sync.WaitGroup
	waiting.Add(n)
	for range n {
		go func() {
			waiting.Done()
			<-hold
		}()
	}
	waiting.Wait()
	fmt.Println(nanos(start) / float64(n))
	untilTold()
	os.Exit(0)
	return nil
}
