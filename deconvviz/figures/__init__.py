"""Drawings of results with matplotlib; they read results, never models."""
