"""What is below any route, in the terms of HTTP: problems, bodies, cursors, entity tags, ids of requests."""
