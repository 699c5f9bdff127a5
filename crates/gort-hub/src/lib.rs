//! A WebSocket hub that speaks the Pusher Channels protocol, a goroutine or two per connection.
#![forbid(unsafe_code)]
