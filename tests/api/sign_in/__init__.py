"""Tests of signing in: keys, cookies, sessions and the pages around them."""
