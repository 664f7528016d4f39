"""Does it reproduce? One file a paper: its claims as functions over the public API, measured against controls."""

from nissl.papers.harness import Claim, Outcome, Paper, papers, reproduce

__all__ = ["Claim", "Outcome", "Paper", "papers", "reproduce"]
