"""Control: commands, snapshots and one event stream, over HTTP/JSON and WebSocket."""
