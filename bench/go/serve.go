package main

import (
	"fmt"
	"net"
	"os"
)

func serve(kind string) {
	switch kind {
	case "echo":
		listen(echo)
	case "hogs":
		for range 8 {
			go func() {
				for {
				}
			}()
		}
		listen(echo)
	default:
		serveWebSockets(kind)
	}
}

func listen(handler func(net.Conn)) {
	listener := bind()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go handler(conn)
		}
	}()
	untilTold()
	os.Exit(0)
}

func bind() net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	fmt.Println(listener.Addr())
	return listener
}

func echo(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, 1024)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err := conn.Write(buffer[:n]); err != nil {
			return
		}
	}
}
