"""Callbacks for the training libraries of other people; each is imported where it is used."""
