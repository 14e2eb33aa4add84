"""Brands and projects, which runs are written for: their lists, their pages and the forms that make and change them."""
