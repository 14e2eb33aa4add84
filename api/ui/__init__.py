"""Pages for people in browsers: rendered on the server, without scripts."""
