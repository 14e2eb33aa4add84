"""What can be asked under ``/api/v2``: a file for each noun, and ``table``, which lists every route on one page."""
