"""The request and response models of the API, a file for each noun.

The OpenAPI document shows the docstrings of these models.
"""
