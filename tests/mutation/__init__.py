"""The tests themselves: whether they notice when a line of the program is changed."""
