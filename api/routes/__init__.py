"""One file a noun; ``api.app`` lists every route on one page."""
