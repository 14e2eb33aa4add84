"""HTTP building blocks that know no route: problems, bodies, cursors, entity tags, request ids, thread pools."""
