"""Programs that are members like anybody else. They know the client, never the server."""
