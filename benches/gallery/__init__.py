"""Programs with a planted bug and programs without one, used as their authors would, and the tools that watch them."""
