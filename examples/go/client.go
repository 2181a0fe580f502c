// Opens connections with IP_LOCAL_PORT_RANGE, so that connect() stays fast until the last port.
//
// build: go build client.go
// usage: client TARGET PORT CONNECTIONS LOW HIGH [SOURCE]
//
// It prints the local address of each connection, and holds all of them until its end.
package main

import (
	"errors"
	"fmt"
	"math/rand"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	ipBindAddressNoPort = 24
	ipLocalPortRange    = 51 // since Linux 6.3
	window              = 500
	windows             = 10
)

// prefersNoParity says whether connect() searches all ports of IP_LOCAL_PORT_RANGE alike: since Linux 6.8.
func prefersNoParity() bool {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	var major, minor int
	if err != nil {
		return false
	}
	fmt.Sscanf(string(release), "%d.%d", &major, &minor)
	return major > 6 || major == 6 && minor >= 8
}

// dialOnce connects from a port of low to high; with a source from that address.
func dialOnce(target string, low, high int, source string) (net.Conn, error) {
	dialer := net.Dialer{Control: func(_, _ string, conn syscall.RawConn) error {
		var err error
		failed := conn.Control(func(fd uintptr) {
			// The value is the lowest port, and the highest times 65,536.
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, ipLocalPortRange, int(int32(low|high<<16)))
			if errors.Is(err, syscall.ENOPROTOOPT) {
				err = nil // Linux before 6.3: the ports are those of the host's setting
			}
			if err == nil && source != "" {
				// Without this option bind() takes a port at once, for every target: that port is lost for the others.
				err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
			}
		})
		if failed != nil {
			return failed
		}
		return err
	}}
	if source != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)} // the dialer calls bind() after Control
	}
	return dialer.Dial("tcp4", target)
}

// dial connects from a port of low to high.
//
// Since Linux 6.8 the whole range is the fastest. Before, connect() first probes all ports of one parity there: a few
// random windows are faster, and the whole range comes last, so that no free port is missed.
func dial(target string, low, high int, source string) (net.Conn, error) {
	if !prefersNoParity() && high-low >= window {
		for try := 0; try < windows; try++ {
			start := low + rand.Intn(high-low-window+2)
			conn, err := dialOnce(target, start, start+window-1, source)
			if !errors.Is(err, syscall.EADDRNOTAVAIL) {
				return conn, err
			}
		}
	}
	return dialOnce(target, low, high, source)
}

func main() {
	var words [3]int
	for place, at := range []int{3, 4, 5} {
		number, err := strconv.Atoi(append(os.Args, make([]string, 6)...)[at])
		if err != nil {
			fmt.Fprintln(os.Stderr, "usage: client TARGET PORT CONNECTIONS LOW HIGH [SOURCE]")
			os.Exit(2)
		}
		words[place] = number
	}
	source := ""
	if len(os.Args) > 6 {
		source = os.Args[6]
	}
	rand.Seed(time.Now().UnixNano()) // Go before 1.20 draws the same numbers in each process
	held := make([]net.Conn, words[0])
	for i := range held {
		conn, err := dial(net.JoinHostPort(os.Args[1], os.Args[2]), words[1], words[2], source)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		held[i] = conn
		fmt.Println(conn.LocalAddr())
	}
}
