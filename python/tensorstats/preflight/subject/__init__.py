"""What is checked: a model on its batch, what is seen of it, how it is trained a little, and how it is put back."""
