//go:build !gorilla

package main

func serveWebSockets(string) { fail("gorilla/websocket is not here") }
