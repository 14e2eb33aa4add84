"""Tests of the pages in a real browser; ``VM_SCREENSHOTS=folder`` keeps pictures of them in both themes."""
