"""Callbacks that record and judge a training of transformers or Lightning. Each file imports only its own framework."""
