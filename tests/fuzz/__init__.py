"""Hostile input: mutations of what is valid, thrown at everything that reads what others wrote. See `__main__`."""
