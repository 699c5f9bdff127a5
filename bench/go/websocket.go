//go:build gorilla

package main

import (
	"net/http"
	"os"
	"sync"

	"github.com/gorilla/websocket"
)

// Buffers of what the messages need, those for writing shared: as gorilla's documentation advises for many connections.
var upgrader = websocket.Upgrader{
	ReadBufferSize:  1024,
	WriteBufferSize: 1024,
	WriteBufferPool: &sync.Pool{},
}

func serveWebSockets(kind string) {
	var handler func(*websocket.Conn)
	switch kind {
	case "ws-echo":
		handler = wsEcho
	case "ws-broadcast":
		handler = new(everybody).serve
	default:
		fail("no such server")
	}
	listener := bind()
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		handler(conn)
	}))
	untilTold()
	os.Exit(0)
}

func wsEcho(conn *websocket.Conn) {
	for {
		kind, text, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if err := conn.WriteMessage(kind, text); err != nil {
			return
		}
	}
}

// A writer for each connection, with a bounded queue; a message is encoded once.
type everybody struct {
	mutex  sync.Mutex
	queues []chan *websocket.PreparedMessage
}

func (e *everybody) serve(conn *websocket.Conn) {
	queue := make(chan *websocket.PreparedMessage, 64)
	go func() {
		for prepared := range queue {
			if err := conn.WritePreparedMessage(prepared); err != nil {
				return
			}
		}
	}()
	e.mutex.Lock()
	e.queues = append(e.queues, queue)
	e.mutex.Unlock()
	for {
		_, text, err := conn.ReadMessage()
		if err != nil {
			return
		}
		prepared, err := websocket.NewPreparedMessage(websocket.TextMessage, text)
		if err != nil {
			return
		}
		e.mutex.Lock()
		for _, queue := range e.queues {
			select {
			case queue <- prepared:
			default:
			}
		}
		e.mutex.Unlock()
	}
}
