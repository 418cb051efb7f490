# SPDX-License-Identifier: Apache-2.0
# A Go program: goroutines, exec, files, timers.
set -e
export GOCACHE=/tmp/gocache GOFLAGS=-mod=mod HOME=/tmp CGO_ENABLED=0
mkdir g; cd g
cat > main.go <<'S'
package main

import ("fmt"; "os"; "os/exec"; "sync"; "time"; "os/signal"; "syscall"; "runtime")

func main() {
	var wg sync.WaitGroup; var mu sync.Mutex; sum := 0
	for i := 0; i < 1000; i++ { wg.Add(1); go func(i int) { defer wg.Done(); mu.Lock(); sum += i; mu.Unlock() }(i) }
	wg.Wait(); fmt.Println(sum)
	out, err := exec.Command("echo", "from", "child").CombinedOutput(); fmt.Printf("%q %v\n", out, err)
	os.WriteFile("f", []byte("data"), 0640); st, _ := os.Stat("f"); fmt.Println(st.Size(), st.Mode())
	t := time.NewTimer(20 * time.Millisecond); select { case <-t.C: fmt.Println("timer"); case <-time.After(5 * time.Second): fmt.Println("late") }
	c := make(chan os.Signal, 1); signal.Notify(c, syscall.SIGUSR1); syscall.Kill(os.Getpid(), syscall.SIGUSR1); fmt.Println(<-c)
	done := make(chan bool); go func() { for i := 0; i < 1e8; i++ { if i%1e7 == 0 { runtime.Gosched() } }; done <- true }(); <-done
	defer func() { fmt.Println("recovered:", recover()) }(); var p *int; fmt.Println(*p)
}
S
printf 'module m\ngo 1.19\n' > go.mod; go build -o prog . ; ./prog; rm -rf ../g
