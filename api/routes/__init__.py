"""The routes below ``/api/v2``: a file for each noun, and ``table``, which lists all of them on one page."""
