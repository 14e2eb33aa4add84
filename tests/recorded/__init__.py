"""Answers to what is wrong, recorded: to the letter what clients and scripts have been told before."""
